"""
Labs: what is missing, what can be told, what is embedded
=========================================================

Most lab tests of most stays were never ordered. :class:`~sklearn_medfuse.MaskedLabEncoder` takes
that as it is: a test that was not measured is no token, and nothing is filled in before the model
sees the stay. Here it learns from the first day of real ICU stays, and is asked what it knows.
"""

# %%
# What is missing
# ---------------
# Labs stand by how often they are measured, stays by how many labs they have. Blocks are panels
# that are ordered together: the blood gas, for one.
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import GroupShuffleSplit

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.plotting import MissingnessDisplay

cohort = load_eicu_demo()
labs = cohort.X[cohort.lab_columns]
MissingnessDisplay.from_labs(labs)

# %%
# Learning
# --------
# Patients of the test rows are not among those learned from. Training hides a share of the
# *measured* cells of each stay, between a tenth and seven tenths, and predicts them from the rest.
splitter = GroupShuffleSplit(1, test_size=0.3, random_state=0)
train, test = next(splitter.split(labs, groups=cohort.groups))
train, test = labs.iloc[train], labs.iloc[test]
encoder = MaskedLabEncoder(random_state=0).fit(train)
encoder

# %%
# The score hides a fifth of the measured cells of the test stays. An R² of 0 is what the mean of
# each lab would get, so a small number is no failure: seventeen worst values of a day tell little
# of each other.
print(f"R² on hidden cells of {len(test)} stays: {encoder.score(test):.3f}")

# %%
# The same lab by lab: `reconstruct` returns the hidden cells, scikit-learn draws them. Creatinine
# follows from its neighbours; glucose is predicted worse than by its mean here, since a worst value
# of the day may be very low or very high.
cells = encoder.reconstruct(test)
drawn = ["creatinine", "bun", "albumin", "hematocrit", "ph", "heartrate", "sodium", "glucose"]
figure, axes = plt.subplots(2, 4, figsize=(13, 6.5), layout="constrained")
for ax, lab in zip(axes.flat, drawn, strict=True):
    lab_cells = cells[cells["lab"] == lab]
    PredictionErrorDisplay.from_predictions(
        lab_cells["true"],
        lab_cells["predicted"],
        kind="actual_vs_predicted",
        ax=ax,
        scatter_kwargs={"s": 8, "alpha": 0.4},
    )
    ax.set_title(lab)

# %%
# Where the predictions come from: the correlations that the encoder's linear part has learned, with
# related labs side by side.
correlation = encoder.lab_correlation()
distance = squareform(1 - correlation.abs().to_numpy(), checks=False)
order = leaves_list(linkage(distance, "average", optimal_ordering=True))
correlation = correlation.iloc[order, order]
figure, ax = plt.subplots(figsize=(6.5, 5.5), layout="constrained")
figure.colorbar(ax.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1), label="correlation")
ax.set_xticks(range(len(correlation)), correlation.columns, rotation=90)
_ = ax.set_yticks(range(len(correlation)), correlation.index)

# %%
# Imputing
# --------
# `impute` fills what was not measured with what the model expects, and leaves the rest unchanged
# to the last bit. The standard deviation says how far to trust it.
imputed, std = encoder.impute(test, return_std=True)
observed = test.notna().to_numpy()
assert np.array_equal(imputed.to_numpy()[observed], test.to_numpy()[observed])

missing = test["albumin"].isna().to_numpy()
where = test.columns.get_loc("albumin")
print(f"albumin was not measured in {missing.sum()} of {len(test)} stays; filled in they have")
print(
    f"a mean of {imputed['albumin'][missing].mean():.2f} g/dL, "
    f"give or take {std[missing, where].mean():.2f} each"
)

# %%
# A table of expected values is smoother than real ones. Where its spread matters, as in a
# regression, draw several and combine them.
draws = encoder.impute(test, n_imputations=5)
spread = pd.Series(
    {
        "measured": test["albumin"].std(),
        "expected values": imputed["albumin"][missing].std(),
        "drawn values": np.mean([table["albumin"][missing].std() for table in draws]),
    }
)
print("standard deviation of albumin\n" + spread.round(2).to_string())

# %%
# Results as the hospital writes them
# -----------------------------------
# Limits, words and grades need no cleaning beforehand: "<0.01" counts as its limit, words become
# levels in the order that clinicians give them. A text in a column of numbers counts as not
# measured, and one warning says how many there were and where, never what they were.
written = pd.DataFrame(
    {
        "troponin": ["<0.01", "0.4", "hemolysed", None] * 30,
        "ketones": ["NEG", "2+", "TRACE", None] * 30,
    }
)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    grades = MaskedLabEncoder(max_epochs=5, random_state=0).fit(written)
print(told[0].message)
print("levels of ketones:", grades.levels_[1])
print(grades.impute(written.iloc[[0, 1, 3]]))

# %%
# The embedding
# -------------
# One vector per stay goes to the classifier. A stay without any lab has none: a row of NaN, which
# :class:`~sklearn_medfuse.MEDFuseClassifier` reads as an absent modality.
vectors = encoder.transform(test)
absent = np.isnan(vectors).all(axis=1)
print(f"{vectors.shape[0]} stays, {vectors.shape[1]} numbers each, {absent.sum()} without labs")
assert (absent == test.isna().all(axis=1)).all()
