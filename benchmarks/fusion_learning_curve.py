"""From how many stays on does the net see what labs and notes say only together?

Made stays: vectors of labs and notes, five diseases whose logits are linear in both plus products
of a factor of the labs and one of the notes; "best possible" knows the logits.

    python benchmarks/fusion_learning_curve.py [--stays 500 2000 8000 30000] [--figure curve.svg]
"""

import argparse

import numpy as np
import pandas as pd
from common import boosting
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from sklearn_medfuse import MEDFuseClassifier

N_TEST, N_LABELS, N_FACTORS, WIDTHS = 5000, 5, 4, {"labs": 16, "notes": 32}


def make_stays(n_stays, rng):
    """Vectors, labels and true logits; the same hospital for any number of stays."""
    hospital = np.random.default_rng(0)
    factors = [rng.normal(size=(n_stays, N_FACTORS)) for _ in WIDTHS]
    mixing = [hospital.normal(size=(N_FACTORS, width)) for width in WIDTHS.values()]
    X = np.hstack([z @ mix for z, mix in zip(factors, mixing, strict=True)])
    X += rng.normal(size=X.shape)
    linear = sum(z @ hospital.normal(size=(N_FACTORS, N_LABELS)) for z in factors) / 4
    pairs = hospital.normal(size=(N_FACTORS, N_FACTORS, N_LABELS)) / 3
    logits = linear + np.einsum("ni,nj,ijk->nk", *factors, pairs) - 2
    return X, (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int), logits


def scores(n_stays, seed):
    """Macro AUROC of each model on new stays."""
    X, y, _ = make_stays(n_stays, np.random.default_rng([seed, n_stays]))
    X_test, y_test, truth = make_stays(N_TEST, np.random.default_rng(99))
    net = MEDFuseClassifier(modalities=WIDTHS, random_state=seed)
    models = {
        "net": net,
        "net without linear part": clone(net).set_params(linear_weight=0),
        "linear part": clone(net).set_params(linear_weight=1, n_estimators=1, max_epochs=1),
        "boosting": boosting(seed),
    }
    found = {name: model.fit(X, y).predict_proba(X_test) for name, model in models.items()}
    return {n: roc_auc_score(y_test, s) for n, s in {**found, "best possible": truth}.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stays", type=int, nargs="+", default=[500, 1000, 2000, 8000, 30000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--figure", help="file to draw to")
    options = parser.parse_args()
    rows = [{"stays": n, **scores(n, s)} for s in options.seeds for n in options.stays]
    print((table := pd.DataFrame(rows).groupby("stays").mean().round(4)).to_string())
    if options.figure:
        table.index = table.index.map("{:,}".format).rename("stays")
        table.plot(marker="o", ylabel="macro AUROC", ylim=(0.5, 0.85)).figure.savefig(
            options.figure
        )


if __name__ == "__main__":
    main()
