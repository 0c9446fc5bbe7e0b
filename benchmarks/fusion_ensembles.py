"""Does an ensemble that shares its weights do as well as nets of their own?

`MEDFuseClassifier(n_estimators=k)` trains k nets side by side. TabM (Gorishniy et al. 2025) shares
one net among k members that differ by a scale of each input and by their head. Both, without the
linear part, on the bundled ICU stays, whole hospitals held out, by the folds of a seed that no
other figure uses: macro AUROC and AUPRC, weights, and seconds of training.

    python benchmarks/fusion_ensembles.py [--seed 1] [--members 1 4 8 16]
"""

import argparse
import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
import torch
from fusion_common import grouped_folds, medfuse
from sklearn.base import clone
from torch import nn

from sklearn_medfuse._nn.fusion import FusionWithCritic
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.fusion import _classifier
from sklearn_medfuse.metrics import multilabel_report


class SharedMember(nn.Module):
    """A member of a shared fusion: its own scales of the inputs and its own head."""

    def __init__(self, base, widths, n_outputs):
        super().__init__()
        self.base = base
        # random signs, as TabM begins, so that members differ from the first step on
        self.scales = nn.ParameterList(
            nn.Parameter(torch.randint(0, 2, (width,)) * 2.0 - 1) for width in widths
        )
        self.head = nn.Linear(base.head.in_features, n_outputs)
        self.has_specific, self.has_shared = base.has_specific, base.has_shared
        self.has_information = base.has_information

    def forward_parts(self, blocks, present):
        """Parts of the shared fusion, of scaled blocks."""
        # NaN stands for an absent modality: as a factor it would spoil the gradient of the scale
        scaled = [b.nan_to_num() * scale for b, scale in zip(blocks, self.scales, strict=True)]
        return self.base.forward_parts(scaled, present)

    def forward_head(self, parts):
        """Logits of this member."""
        return self.head(self.base.dropout(torch.cat(parts.vectors(), dim=1)))

    def forward_contributions(self, parts):
        """What each part adds to this member's logits."""
        vectors = parts.vectors()
        weights = self.head.weight.chunk(len(vectors), dim=1)
        return torch.stack([v @ weight.T for v, weight in zip(vectors, weights, strict=True)])


class SharedEnsemble(FusionWithCritic):
    """Members that share one fusion and one critic."""

    def __init__(self, n_members, widths, n_outputs, **options):
        super().__init__(1, widths, n_outputs, **options)
        base = self.fusion[0]
        self.fusion = nn.ModuleList(SharedMember(base, widths, n_outputs) for _ in range(n_members))
        self.critic = nn.ModuleList([self.critic[0]] * n_members)


def main():
    """Print a row per kind and number of members."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 8, 16])
    options = parser.parse_args()
    cohort = load_eicu_demo()
    kinds = {"nets of their own": FusionWithCritic, "one shared": SharedEnsemble}
    scores, seconds, weights = {}, {}, {}
    for train, test in grouped_folds(cohort, cohort.hospitals, 5, options.seed):
        pipe = medfuse(cohort.lab_columns, cohort.note_column, options.seed, linear_weight=0.0)
        X_train = pipe["encode"].fit_transform(cohort.X.iloc[train])
        X_test = pipe["encode"].transform(cohort.X.iloc[test])
        for kind, module in kinds.items():
            _classifier.FusionWithCritic = module
            for members in options.members:
                key = (kind, members)
                model = clone(pipe["medfuse"]).set_params(n_estimators=members)
                start = time.perf_counter()
                model.fit(X_train, cohort.y.iloc[train])
                seconds[key] = seconds.get(key, 0.0) + time.perf_counter() - start
                weights[key] = sum(p.numel() for p in model.net_.module_.fusion.parameters())
                found = scores.setdefault(key, np.zeros(cohort.y.shape))
                found[test] = model.predict_proba(X_test)
    rows = []
    for key, score in scores.items():
        macro = multilabel_report(cohort.y, score, n_bootstraps=0).loc["macro"]
        rows.append((*key, macro["auroc"], macro["auprc"], weights[key], seconds[key]))
    names = ["members share", "members", "AUROC", "AUPRC", "weights", "seconds"]
    print(pd.DataFrame(rows, columns=names).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
