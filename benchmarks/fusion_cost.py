"""What MEDFuse costs: an epoch against a hand-written loop, a grid against a single value.

Targets: an epoch at most 1.15 times a bare torch loop over the same net; a 5 x 5 grid over
`mi_weight` at most 1.3 times a 5 x 1 one with `PrivateMemory`; encoders fitted exactly 5 times.

    python benchmarks/fusion_cost.py [--repeats 5] [--quick]
"""

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from common import load_stays
from sklearn.model_selection import GridSearchCV

from sklearn_medfuse import MaskedLabEncoder, MEDFuseClassifier, make_medfuse_pipeline
from sklearn_medfuse._nn.fusion import FusionWithCritic, information_loss
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
from sklearn_medfuse.persistence import PrivateMemory

WIDTHS = (64, 384)


class CountingLabEncoder(MaskedLabEncoder):
    """Counts its fits."""

    n_fits = 0

    def fit(self, X, y=None):
        """Fit, and count."""
        type(self).n_fits += 1
        return super().fit(X, y)


def bare_epochs(X, y, n_epochs, batch_size=128):
    """Seconds of each epoch of the same net and losses in a loop by hand."""
    torch.manual_seed(0)
    net = FusionWithCritic(4, list(WIDTHS), y.shape[1])
    optimizer = torch.optim.AdamW(net.fusion.parameters(), 1e-3, weight_decay=0.05, fused=True)
    critic_optimizer = torch.optim.Adam(net.critic.parameters(), 1e-3)
    blocks = [torch.from_numpy(b).float() for b in np.split(X, [WIDTHS[0]], axis=1)]
    target = torch.from_numpy(y).float()
    present = torch.ones(len(X), 2, dtype=torch.bool)
    parameters = list(net.fusion.parameters())
    seconds = []
    for _ in range(n_epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(X)).split(batch_size):
            parts = net.forward_parts([b[rows] for b in blocks], present[rows])
            critic_optimizer.zero_grad(set_to_none=True)
            net.critic_loss(parts).backward()
            critic_optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            logits = net.forward_logits(parts)
            loss = sum(F.binary_cross_entropy_with_logits(own, target[rows]) for own in logits)
            information = information_loss(net.mutual_information(parts))
            (loss + MEDFuseClassifier().mi_weight * information).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def our_epochs(X, y, n_epochs):
    """Seconds of each epoch of MEDFuseClassifier's training, by skorch's clock."""
    model = MEDFuseClassifier(
        modalities={"labs": WIDTHS[0], "notes": WIDTHS[1]},
        max_epochs=n_epochs,
        random_state=0,
        device="cpu",
    )
    return model.fit(X, y).net_.history[:, "dur"]


def grid_seconds(cohort, weights):
    """Seconds of a search over `mi_weight`, and fits of the lab encoder but for the refit."""
    CountingLabEncoder.n_fits = 0
    with tempfile.TemporaryDirectory() as folder:
        pipe = make_medfuse_pipeline(
            cohort.lab_columns,
            cohort.note_column,
            views={},
            lab_encoder=CountingLabEncoder(random_state=0),
            memory=PrivateMemory(folder),
            random_state=0,
        )
        search = GridSearchCV(
            pipe,
            {"medfuse__mi_weight": weights},
            cv=MultilabelStratifiedGroupKFold(5),
            scoring="average_precision",
            refit=False,
        )
        start = time.perf_counter()
        search.fit(cohort.X, cohort.y, groups=cohort.groups)
        return time.perf_counter() - start, CountingLabEncoder.n_fits


def main():
    """Print the three ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="200 stays, one repeat")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort = load_stays(200 if options.quick else None)
    if options.quick:
        options.repeats = 1
    rng = np.random.default_rng(0)
    n_rows, n_epochs = (256, 2) if options.quick else (1280, 5)
    X = rng.normal(size=(n_rows, sum(WIDTHS)))
    y = rng.integers(0, 2, size=(n_rows, 10))
    # In turns, so that other load on the machine falls on both
    ratios = [
        statistics.median(our_epochs(X, y, n_epochs))
        / statistics.median(bare_epochs(X, y, n_epochs))
        for _ in range(options.repeats)
    ]
    print(f"epoch: {statistics.median(ratios):.2f} x a loop by hand (at most 1.15)")
    one, _ = grid_seconds(cohort, [0.1])
    five, n_fits = grid_seconds(cohort, [0.0, 0.01, 0.1, 1.0, 10.0])
    print(f"grid of 5 weights: {five:.0f} s, {five / one:.2f} x that of one (at most 1.3)")
    print(f"encoders fitted {n_fits} times (5)")


if __name__ == "__main__":
    main()
