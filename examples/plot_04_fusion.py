"""
Fusion: what labs and notes share, and what each has of its own
===============================================================

:class:`~sklearn_medfuse.MEDFuseClassifier` has a vector for what is specific to each modality and
one for what they share, and keeps the two apart. Whether it succeeds can only be seen where the
truth is known, so these stays are simulated from six hidden factors: two show in labs and notes,
two only in labs, two only in notes.
"""

# %%
# Simulated stays
# ---------------
# Each label is a sum of one shared factor, one of the labs and one of the notes. This page is about
# the fusion, so the encoders are small, and the notes are read as words.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import scale

from sklearn_medfuse import MaskedLabEncoder, MEDFuseClassifier, NoteWordEncoder
from sklearn_medfuse.datasets import make_ehr_cohort

cohort = make_ehr_cohort(1200, n_labels=3, random_state=0)
train, test = cohort.train_test_split(by="patient", random_state=0)
print(train)

lab_encoder = MaskedLabEncoder(32, max_epochs=8, random_state=0).fit(train.X[train.lab_columns])
note_encoder = NoteWordEncoder(32, random_state=0).fit(train.X["note"])


def encode(stays):
    """Vectors of both modalities, named by prefix."""
    views = {
        "labs": lab_encoder.transform(stays.X[stays.lab_columns]),
        "notes": note_encoder.transform(stays.X["note"]),
    }
    return pd.concat([pd.DataFrame(v).add_prefix(f"{name}__") for name, v in views.items()], axis=1)


X_train, X_test = encode(train), encode(test)

# %%
# The weight of the mutual information
# ------------------------------------
# `mi_weight` is the paper's λ: the weight of keeping shared and specific parts apart. Search it
# like any parameter, with a second scorer for the nats that the parts still have in common. The
# score changes by less than its spread over the folds, while the estimated information falls to a
# quarter.


def information(estimator, X, y):
    """Nats that shared and specific parts have in common, as the critic sees it."""
    return estimator.mutual_information(X)


search = GridSearchCV(
    MEDFuseClassifier(n_estimators=1, random_state=0),
    {"mi_weight": [0.0001, 0.001, 0.01, 0.1]},
    scoring={"auprc": "average_precision", "information": information},
    refit="auprc",
    cv=3,
)
search.fit(X_train, train.y)
results = pd.DataFrame(search.cv_results_)
figure, axes = plt.subplots(2, sharex=True, layout="constrained")
for ax, name in zip(axes, ["auprc", "information"], strict=True):
    ax.errorbar(
        results["param_mi_weight"].astype(str),
        results[f"mean_test_{name}"],
        yerr=results[f"std_test_{name}"],
        marker="o",
        capsize=3,
    )
axes[0].set_ylabel("macro AUPRC")
_ = axes[1].set(xlabel="mi_weight (mean and SD over folds)", ylabel="mutual information (nats)")

# %%
# The parts
# ---------
# `transform` returns the parts, with names. The figure shows the test stays by the two main
# components of each part, marked by the first disease. It shows in all three, since it depends on
# all three kinds of factors.
fuse = MEDFuseClassifier(mi_weight=0.01, random_state=0).fit(X_train, train.y)
vectors = pd.DataFrame(fuse.transform(X_test), columns=fuse.get_feature_names_out())
part_of = vectors.columns.str.replace(r"(_specific)?\d+$", "", regex=True)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, part in zip(axes, part_of.unique(), strict=True):
    points = PCA(2).fit_transform(scale(vectors.loc[:, part_of == part]))
    for has, marker in ((0, "o"), (1, "x")):
        ax.scatter(*points[test.y.iloc[:, 0] == has].T, s=12, marker=marker, label=has)
    ax.set(title=part, xlabel="first component", xticks=[], yticks=[])
axes[0].set_ylabel("second component")
handles = axes[0].get_legend_handles_labels()
_ = figure.legend(*handles, title=train.target_names[0], loc="outside right upper")

# %%
# Simulated stays can answer which part predicts which factors. Each number is the out-of-fold R² of
# a ridge regression of a factor on a part, averaged over the two factors of a kind, for a small and
# a large weight of the mutual information.
factors = cohort.factors.loc[test.stay_ids]


def told(model):
    """R² of each kind of factor (rows) from each part (columns)."""
    parts = pd.DataFrame(model.transform(X_test), columns=model.get_feature_names_out())
    part_of = parts.columns.str.replace(r"(_specific)?\d+$", "", regex=True)
    ridge = RidgeCV(np.logspace(0, 4, 9))
    r2 = pd.DataFrame(
        {
            part: {
                factor: cross_val_score(ridge, parts.loc[:, part_of == part], values, cv=5).mean()
                for factor, values in factors.items()
            }
            for part in part_of.unique()
        }
    )
    return r2.groupby(r2.index.str.rstrip(" 01")).mean()


light = MEDFuseClassifier(mi_weight=0.0001, random_state=0).fit(X_train, train.y)
tables = {"mi_weight=0.0001": told(light), "mi_weight=0.01": told(fuse)}
pd.concat(tables, axis=1).rename_axis("factors").round(2)

# %%
# The labs' part does not predict the notes' own factors, nor the reverse: it has not seen them.
# Both predict the shared factors, which show in both modalities. The shared part predicts all three
# kinds, and the weight hardly changes that, whatever the estimate above says. Here the structure of
# the net keeps the specific parts apart, more than the term in the loss does.

# %%
# Why this prediction?
# --------------------
# A logit is exactly the sum of one contribution per part and a baseline. Over many stays, the mean
# size shows what the model relies on; for one stay, the signs show why.
added = fuse.contributions(X_test)
assert np.allclose(added.sum(axis=1), fuse.decision_function(X_test))


def draw(contributions, xlabel):
    """Bars of the parts (rows of the table; the last one is the baseline) for each disease."""
    table = pd.DataFrame(contributions[:-1], fuse.part_names_[:-1], train.target_names)
    ax = table.T.plot.barh(xlabel=xlabel)
    ax.invert_yaxis()
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))


draw(np.abs(added).mean(axis=0), "mean size of the contribution to the log-odds")

# %%
# One stay:
draw(added[0], "contribution to the log-odds")

# %%
# How much does the score fall when a modality is shuffled among the stays?
importance = fuse.modality_importance(X_test, test.y, random_state=0)
for name, mean in zip(importance.modalities, importance.importances_mean, strict=True):
    print(f"{name}: macro AUPRC falls by {mean:.3f} from {importance.score:.3f}")

# %%
# No note, no labs
# ----------------
# A stay that lacks a modality is predicted from the other one: its block is NaN, learned tokens
# replace it, and nothing is imputed. If few training stays lack a modality but many stays to
# predict will, `modality_dropout` prepares the model for them.
ready = MEDFuseClassifier(mi_weight=0.01, modality_dropout=0.3, random_state=0)
ready.fit(X_train, train.y)


def without(prefix):
    """Test stays whose block of that name is absent."""
    return X_test.mask(np.broadcast_to(X_test.columns.str.startswith(prefix), X_test.shape))


inputs = {
    "labs and notes": X_test,
    "labs alone": without("notes"),
    "notes alone": without("labs"),
}
print(
    pd.DataFrame(
        {
            name: {
                what: average_precision_score(test.y, model.predict_proba(rows))
                for what, rows in inputs.items()
            }
            for name, model in {"as above": fuse, "modality_dropout=0.3": ready}.items()
        }
    ).round(3)
)
