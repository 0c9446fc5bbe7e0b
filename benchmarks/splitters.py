"""How even are labels over folds: our splitters beside scikit-learn's, on real and made stays.

Five folds; of each label the share of its positives in each fold, which is 1/5 at best. Printed are
the mean distance from it relative to it, the greatest, and the number of folds without any positive
of some label. The unit is a stay, a patient or a hospital.

    python benchmarks/splitters.py [--seeds 20] [--quick]
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold

from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.model_selection import (
    LeaveHospitalsOut,
    MultilabelStratifiedGroupKFold,
    MultilabelStratifiedKFold,
)

N_SPLITS = 5


def made_hospitals(seed, n_samples=1000, n_groups=90, n_labels=8):
    """Labels whose prevalence differs between hospitals of very different size."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(n_groups, n_samples, p=rng.dirichlet(np.full(n_groups, 0.5)))
    logit = rng.uniform(-3, -0.7, n_labels) + rng.normal(0, 0.8, (n_groups, n_labels))[groups]
    return (rng.uniform(size=logit.shape) < 1 / (1 + np.exp(-logit))).astype(int), groups


def unevenness(splitter, y, groups):
    """Mean and greatest relative distance of the shares from even, folds that lack a label."""
    with warnings.catch_warnings(action="ignore"):  # that a label is in fewer groups than folds
        folds = [test for _, test in splitter.split(y, y, groups)]
    counts = np.array([y[test].sum(axis=0) for test in folds])
    distance = np.abs(N_SPLITS * counts / y.sum(axis=0) - 1)
    return distance.mean(), distance.max(), (counts == 0).any(axis=1).sum()


def make_splitters(seed, unit):
    """Name → splitter."""
    options = {"shuffle": True, "random_state": seed}
    if unit == "stay":
        return {
            "KFold": KFold(N_SPLITS, **options),
            "MultilabelStratifiedKFold": MultilabelStratifiedKFold(N_SPLITS, **options),
        }
    splitters = {
        "GroupKFold": GroupKFold(N_SPLITS, **options),
        "MultilabelStratifiedGroupKFold": MultilabelStratifiedGroupKFold(N_SPLITS, **options),
    }
    if unit == "hospital":
        splitters["LeaveHospitalsOut"] = LeaveHospitalsOut(1 / N_SPLITS, **options)
    return splitters


def main():
    """Print a line per data set, unit and splitter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    options = parser.parse_args()
    cohort = load_eicu_demo()
    y = cohort.y.to_numpy()
    rows = []
    for seed in range(2 if options.quick else options.seeds):
        made, made_groups = made_hospitals(seed)
        for data, unit, labels, groups in (
            ("eICU demo", "stay", y, None),
            ("eICU demo", "patient", y, cohort.groups.to_numpy()),
            ("eICU demo", "hospital", y, cohort.hospitals.to_numpy()),
            ("made", "hospital", made, made_groups),
        ):
            for name, splitter in make_splitters(seed, unit).items():
                rows.append((data, unit, name, *unevenness(splitter, labels, groups)))
    columns = ["data", "unit", "splitter", "mean", "greatest", "folds that lack a label"]
    table = pd.DataFrame(rows, columns=columns).groupby(columns[:3], sort=False).mean()
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
