"""
Labs: what is missing, what can be predicted, what is embedded
==============================================================

Most lab tests of most stays were never ordered. :class:`~sklearn_medfuse.MaskedLabEncoder` works
without them: a test that was not measured has no token, and nothing is filled in before the model
sees the stay. This example trains it on the first day of real ICU stays and shows what it has
learned.
"""

# %%
# What is missing
# ---------------
# Labs are sorted by how often they are measured, stays by how many labs they have. Blocks are
# panels that are ordered together, such as the blood gas.
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

cohort = load_eicu_demo()
labs = cohort.X[cohort.lab_columns]
measured = labs.notna()
measured = measured[measured.mean().sort_values(ascending=False).index]
by_count = measured.sum(axis=1).sort_values(ascending=False, kind="stable").index
figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
ax.imshow(measured.loc[by_count].T, aspect="auto", cmap="Blues", interpolation="none")
names = [f"{lab} ({share:.0%})" for lab, share in measured.mean().items()]
ax.set_yticks(range(len(names)), names, fontsize="small")
ax.set_xlabel("stays, those with most labs first (dark: measured)")

# %%
# Learning
# --------
# No patient of the test rows is in the training rows. Training hides a share of the
# *measured* cells of each stay, between a tenth and seven tenths, and predicts them from the rest.
splitter = GroupShuffleSplit(1, test_size=0.3, random_state=0)
train, test = next(splitter.split(labs, groups=cohort.groups))
train, test = labs.iloc[train], labs.iloc[test]
encoder = MaskedLabEncoder(random_state=0).fit(train)
encoder

# %%
# The score hides a fifth of the measured cells of the test stays. The mean of each lab would have
# an R² of 0, so a small number is no failure: seventeen worst values of a day say little about each
# other.
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
# `impute` fills gaps with the values that the model expects and leaves measured values as they are,
# bit by bit. The standard deviation says how far to trust a filled-in value.
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
# Expected values vary less than real ones. Where the spread matters, as in a regression, draw
# several tables and combine the results.
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
# Limits, words and grades need no cleaning: "<0.01" counts as its limit, and words become levels in
# their clinical order. Text in a column of numbers counts as not measured; a warning says how many
# such results there were and in which columns, never what they were.
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
# The classifier receives one vector per stay. A stay without any lab has a row of NaN, which
# :class:`~sklearn_medfuse.MEDFuseClassifier` reads as an absent modality.
vectors = encoder.transform(test)
absent = np.isnan(vectors).all(axis=1)
print(f"{vectors.shape[0]} stays, {vectors.shape[1]} numbers each, {absent.sum()} without labs")
assert (absent == test.isna().all(axis=1)).all()
