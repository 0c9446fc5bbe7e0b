"""Scores of many labels under many row weightings at once, and their averages.

A bootstrap resample is a vector of whole-number row weights, so scores under weights give every
resample from one sort per label. In all score functions `y_true` and `y_score` have shape
(n_samples, n_labels), `weights` has shape (n_samples, n_draws), and the result has shape
(n_draws, n_labels). A pair whose label is NaN is left out. Where a score is undefined, for example
because a draw holds one class only, it is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from ._inputs import check_probabilities, check_scores

_EPSILON = float(np.finfo(float).eps)
# Of the report's "ece"; the calibration functions take the number from the user
_N_BINS = 10


@dataclass(frozen=True)
class Score:
    """A score of a report: one of the score functions, and how to read it."""

    function: Callable[..., np.ndarray]
    # The function expects the thresholds to be subtracted from the scores
    of_decisions: bool = False
    # Scores must lie in [0, 1]
    of_probabilities: bool = False
    # Resampling makes it greater, so that percentiles of draws would be too high
    grows_with_noise: bool = False
    # Of a share of rows: from `_Counts` to the rows that count and the rows that they are among
    share: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None

    def interval(self, bootstrap, estimate, draws, lowest=0.0):
        """Interval of the estimate from its draws."""
        if self.grows_with_noise:
            return bootstrap.mirrored_interval(estimate, draws, lowest=lowest, highest=1.0)
        return bootstrap.interval(draws)


def resolve_score(metric, *, name="metric", y_scores=()):
    """Look a score up; the log loss clips by the precision of `y_scores`, the user's scores."""
    if not isinstance(metric, str) or metric not in _SCORES:
        raise ValueError(f"`{name}` is {metric!r}; pass one of {', '.join(_SCORES)}.")
    if metric == "log_loss":
        epsilon = max(map(precision_of, y_scores), default=_EPSILON)
        return Score(partial(weighted_log_loss, epsilon=epsilon), of_probabilities=True)
    return _SCORES[metric]


def precision_of(y_prob):
    """Machine epsilon of the type of the probabilities."""
    # Array by array, as a list may hold arrays of several shapes, which are refused later
    arrays = y_prob if isinstance(y_prob, list | tuple) and len(y_prob) else [y_prob]
    dtype = np.result_type(*map(np.asarray, arrays))
    return float(np.finfo(dtype if np.issubdtype(dtype, np.floating) else float).eps)


def read_scores(y_score, y_true, scores, *, name="y_score", labels=None):
    """Read what a classifier gave, as probabilities where one of the scores needs them."""
    of_probabilities = any(score.of_probabilities for score in scores)
    check = check_probabilities if of_probabilities else check_scores
    return check(y_score, y_true, name=name, labels=labels)


def tabulate_scores(found, y_true, y_score, names, averages, bootstrap, threshold=0.0):
    """Return a row per label and average, with columns for each score and its interval."""

    scored = {
        name: y_score - threshold if score.of_decisions else y_score
        for name, score in found.items()
    }

    def score_all(draws):
        values = [
            with_averages(score.function, y_true, scored[name], draws, averages)
            for name, score in found.items()
        ]
        return np.stack(values, axis=1)

    estimates, draws = bootstrap.score(score_all)
    n_positive = (y_true == 1).sum(axis=0)
    columns = {"n_positive": np.append(n_positive, [n_positive.sum()] * len(averages))}
    for number, (name, score) in enumerate(found.items()):
        estimate = estimates[number]
        interval = score.interval(bootstrap, estimate, draws[:, number])
        low, high = exact_at_edges(
            score, estimate, interval, y_true, scored[name], averages, bootstrap
        )
        columns |= {name: estimate, f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns, index=[*names, *averages])


def exact_at_edges(
    score, estimate, interval, y_true, y_score, averages, bootstrap, rows=slice(None)
):
    """Replace the intervals of shares that are 0 or 1, which are so in every resample.

    Clopper and Pearson's of n of n trials begins at t^(1 / n), with t of the draws below an
    interval. Trials are the groups; if they weigh w_g, n = (Σ w_g)² / Σ w_g². `y_true` and
    `y_score` are those of `rows`.
    """
    low, high = interval
    at_edge = (low == estimate) & (high == estimate) & ((estimate == 0) | (estimate == 1))
    if score.share is None or not at_edge.any():
        return low, high
    weights = bootstrap.weights_by_group[rows]
    _, trials = score.share(_Counts(y_true, y_score, weights))
    # The last column is of all pairs, for "micro"
    trials = np.column_stack([trials, trials.sum(axis=1)])
    n_trials = divide(trials.sum(axis=0) ** 2, (trials**2).sum(axis=0))
    end = ((1 - bootstrap.confidence_level) / 2) ** (1 / n_trials)
    n_positive = (weights.T @ (y_true == 1)).sum(axis=0)
    end = append_averages(end[None, :-1], n_positive[None], end[-1:], averages)[0]
    low = np.where(at_edge & (estimate == 1), end, low)
    return low, np.where(at_edge & (estimate == 0), 1 - end, high)


# Averages over labels


def with_averages(score, y_true, y_score, weights, averages):
    """Score every label and append the averages: (n_draws, n_labels + n_averages, …)."""
    values, n_positive, pooled = score_with_pairs(score, y_true, y_score, weights, averages)
    return append_averages(values, n_positive, pooled, averages)


def score_with_pairs(score, y_true, y_score, weights, averages):
    """Return what `append_averages` takes: scores, positives, and the score of all pairs.

    For "micro", all pairs of row and label are scored as rows of one label. There are n_labels
    times as many pairs as rows, so draws are taken in parts.
    """
    values = score(y_true, y_score, weights)
    n_positive = weights.T @ (y_true == 1)
    if "micro" not in averages:
        return values, n_positive, np.array(np.nan)
    n_labels = y_true.shape[1]
    pairs = y_true.reshape(-1, 1), y_score.reshape(-1, 1)
    step = max(1, weights.shape[1] // n_labels)
    parts = [
        score(*pairs, np.repeat(weights[:, start : start + step], n_labels, axis=0))[:, 0]
        for start in range(0, weights.shape[1], step)
    ]
    return values, n_positive, np.concatenate(parts)


def append_averages(values, n_positive, pooled, averages):
    """Append the averages to scores of labels, of shape (n_draws, n_labels, …).

    "macro" is the mean over the labels whose score is defined, "weighted" the same weighted by
    `n_positive`, of shape (n_draws, n_labels), and "micro" is `pooled`, of shape (n_draws, …).
    """
    n_positive = n_positive.reshape(*n_positive.shape, *[1] * (values.ndim - 2))
    columns = [values]
    for average in averages:
        if average == "micro":
            columns.append(pooled[:, None])
            continue
        defined = np.isfinite(values)
        weights = n_positive if average == "weighted" else np.ones_like(n_positive)
        weights = np.where(defined, weights, 0.0)
        weighted = (np.where(defined, values, 0.0) * weights).sum(axis=1)
        columns.append(divide(weighted, weights.sum(axis=1))[:, None])
    return np.concatenate(columns, axis=1)


def divide(part, whole, *, undefined=np.nan):
    """Divide, with a value of its own where the denominator is 0."""
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), undefined)
    return np.divide(part, whole, out=out, where=whole > 0)


# Ranking


def weighted_auroc(y_true, y_score, weights):
    """Area under the ROC curve: how often a positive row outranks a negative one, ties half."""
    return _rank_labels(_label_auroc, y_true, y_score, weights)


def weighted_auprc(y_true, y_score, weights):
    """Average precision: the mean, over positives, of the precision at the positive's score."""
    return _rank_labels(_label_auprc, y_true, y_score, weights)


def _rank_labels(score_label, y_true, y_score, weights):
    scores = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    defined = (weights.T @ (y_true == 1) > 0) & (weights.T @ (y_true == 0) > 0)
    for label in np.flatnonzero(defined.any(axis=0)):
        known = ~np.isnan(y_true[:, label])
        rows = slice(None) if known.all() else known
        values = score_label(*_cumulate(y_true[rows, label], y_score[rows, label], weights[rows]))
        scores[:, label] = np.where(defined[:, label], values, np.nan)
    return scores


def _cumulate(y_true, y_score, weights):
    """Count positives and rows down the ranking, at every distinct score of a positive.

    Rows of equal score form one block, which makes ties exact. Blocks without a positive add
    nothing to either score, so only their rows are counted.

    All arrays are of shape (n_blocks, n_draws), highest score first: the weight of the positives
    in each block, of all positives down to the block's end, of all rows before the block, and of
    all rows down to its end. The totals of positives and rows, of shape (n_draws,), follow.
    """
    order = np.argsort(-y_score, kind="stable")
    y_true, y_score = y_true[order], y_score[order]
    starts = np.flatnonzero(np.r_[True, y_score[1:] != y_score[:-1]])
    ends = np.r_[starts[1:], len(y_score)]
    has_positive = np.add.reduceat(y_true, starts) > 0
    starts, ends = starts[has_positive], ends[has_positive]

    ranked = weights[order]
    rows = np.vstack([np.zeros((1, weights.shape[1])), np.cumsum(ranked, axis=0)])
    is_positive = y_true > 0
    positives = np.cumsum(ranked[is_positive], axis=0)[np.cumsum(is_positive)[ends - 1] - 1]
    block_positives = np.diff(positives, axis=0, prepend=0)
    return block_positives, positives, rows[starts], rows[ends], positives[-1], rows[-1]


def _label_auroc(block_positives, positives, rows_before, rows, n_positive, n_rows):
    negatives_before = rows_before - (positives - block_positives)
    negatives_through = rows - positives
    n_negative = n_rows - n_positive
    outranked = n_negative - (negatives_before + negatives_through) / 2
    return divide((block_positives * outranked).sum(axis=0), n_positive * n_negative)


def _label_auprc(block_positives, positives, rows_before, rows, n_positive, n_rows):
    # A draw may skip the highest scores: 0 positives of 0 rows add nothing
    precision = divide(positives, rows, undefined=0.0)
    return divide((block_positives * precision).sum(axis=0), n_positive)


# Decisions: a row is predicted where `y_score` is at least 0, as thresholds are subtracted before


def _score_share(y_true, y_score, weights, *, share):
    return divide(*share(_Counts(y_true, y_score, weights)))


def _f1(y_true, y_score, weights):
    counts = _Counts(y_true, y_score, weights)
    f1 = divide(2 * counts.true_positive, counts.positive + counts.predicted)
    return np.where((counts.positive > 0) & (counts.negative > 0), f1, np.nan)


class _Counts:
    """Weights of the cells of each label's table of truth and decision."""

    def __init__(self, y_true, y_score, weights):
        predicted = y_score >= 0
        self.positive = weights.T @ (y_true == 1)
        self.negative = weights.T @ (y_true == 0)
        self.true_positive = weights.T @ ((y_true == 1) & predicted)
        false_positive = weights.T @ ((y_true == 0) & predicted)
        self.predicted = self.true_positive + false_positive
        self.true_negative = self.negative - false_positive
        self.not_predicted = self.true_negative + (self.positive - self.true_positive)


def _prevalence(y_true, y_score, weights):
    """Share of positive rows; defined for a constant label too."""
    n_positive, n_negative = weights.T @ (y_true == 1), weights.T @ (y_true == 0)
    return divide(n_positive, n_positive + n_negative)


# Probabilities


def weighted_brier(y_true, y_prob, weights):
    """Mean squared distance between probability and label."""
    return _mean_loss((y_true - y_prob) ** 2, weights)


def weighted_log_loss(y_true, y_prob, weights, epsilon=_EPSILON):
    """Mean negative logarithm of the probability of what came true."""
    of_what_came_true = np.where(y_true == 1, y_prob, 1 - y_prob)
    losses = -np.log(np.clip(of_what_came_true, epsilon, 1 - epsilon))
    return _mean_loss(np.where(np.isnan(y_true), np.nan, losses), weights)


def _mean_loss(losses, weights):
    known = ~np.isnan(losses)
    return divide(weights.T @ np.where(known, losses, 0.0), weights.T @ known)


def weighted_calibration_error(
    y_true, y_prob, weights, *, bin_weights=None, n_bins=_N_BINS, strategy="uniform"
):
    """Mean distance between frequency and mean probability of bins, by the bins' weights.

    The bins are those of `bin_weights`, of shape (n_samples,), and the same in every draw.
    """
    if bin_weights is None:
        bin_weights = np.ones(len(y_true))
    bin_of_pair = put_into_bins(y_true, y_prob, bin_weights, n_bins, strategy)
    errors = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    for label in range(y_true.shape[1]):
        known = ~np.isnan(y_true[:, label])
        times = weights[known]
        # W_m (ȳ_m - p̄_m) in one sum
        gaps = sum_by_bin(bin_of_pair[known, label], (y_true - y_prob)[known, label, None] * times)
        errors[:, label] = divide(np.abs(gaps).sum(axis=0), times.sum(axis=0))
    return errors


def put_into_bins(y_true, y_prob, weights, n_bins, strategy):
    """Return the bin of each pair of row and label, 0 … n_bins-1; a bin holds its upper edge.

    "uniform" bins have equal width, "quantile" bins about equal weight.
    """
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    shares = np.arange(1, n_bins) / n_bins
    bin_of_pair = np.empty(y_prob.shape, dtype=int)
    for label in range(y_prob.shape[1]):
        counted = ~np.isnan(y_true[:, label]) & (weights > 0)
        if strategy == "quantile" and n_bins > 1 and counted.any():
            # The one definition of a quantile for which a weight of 2 is a row that occurs twice
            edges = np.quantile(
                y_prob[counted, label], shares, weights=weights[counted], method="inverted_cdf"
            )
        bin_of_pair[:, label] = np.searchsorted(edges, y_prob[:, label])
    return bin_of_pair


def sum_by_bin(bin_of_row, values, n_bins=None):
    """Sum rows of `values`, of shape (n_samples, n_draws), in each bin: (n_bins, n_draws)."""
    if n_bins is None:
        n_bins = int(bin_of_row.max(initial=-1)) + 1
    n_rows = len(bin_of_row)
    member = csr_array((np.ones(n_rows), (bin_of_row, np.arange(n_rows))), shape=(n_bins, n_rows))
    return member @ values


_SCORES = {
    "auroc": Score(weighted_auroc),
    "auprc": Score(weighted_auprc),
    "f1": Score(_f1, of_decisions=True),
    **{
        name: Score(partial(_score_share, share=share), of_decisions=True, share=share)
        for name, share in {
            "sensitivity": lambda counts: (counts.true_positive, counts.positive),
            "specificity": lambda counts: (counts.true_negative, counts.negative),
            "ppv": lambda counts: (counts.true_positive, counts.predicted),
            "npv": lambda counts: (counts.true_negative, counts.not_predicted),
        }.items()
    },
    "brier": Score(weighted_brier, of_probabilities=True),
    "log_loss": Score(weighted_log_loss, of_probabilities=True),
    "ece": Score(weighted_calibration_error, of_probabilities=True, grows_with_noise=True),
    "prevalence": Score(
        _prevalence, share=lambda counts: (counts.positive, counts.positive + counts.negative)
    ),
}
