"""The scores that reports know by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ._bootstrap import basic_interval, percentile_interval
from ._inputs import check_probabilities, check_scores
from ._weighted_decisions import (
    weighted_f1,
    weighted_npv,
    weighted_ppv,
    weighted_sensitivity,
    weighted_specificity,
)
from ._weighted_probabilities import (
    put_into_bins,
    weighted_brier,
    weighted_calibration_error,
    weighted_log_loss,
)
from ._weighted_scores import weighted_auprc, weighted_auroc, weighted_prevalence

_N_BINS = 10


@dataclass(frozen=True)
class Score:
    """A score by name.

    Parameters
    ----------
    function : callable
        Labels, scores and weights of shape (n_samples, n_draws) → (n_draws, n_labels).

    of_decisions : bool, default=False
        Whether the function wants the thresholds subtracted from the scores.

    of_probabilities : bool, default=False
        Whether scores must lie in [0, 1].

    grows_with_noise : bool, default=False
        Whether resampling makes it greater, so that percentiles of draws would be too high.
    """

    function: Callable
    of_decisions: bool = False
    of_probabilities: bool = False
    grows_with_noise: bool = False

    def interval(self, estimate, draws, confidence_level, *, lowest=0.0, highest=1.0):
        """Interval of the estimate from its draws."""
        if self.grows_with_noise:
            ends = {"lowest": lowest, "highest": highest}
            return basic_interval(estimate, draws, confidence_level, **ends)
        return percentile_interval(draws, confidence_level)


def _prevalence(y_true, y_score, weights):
    return weighted_prevalence(y_true, weights)


def _calibration_error(y_true, y_prob, weights):
    bins = put_into_bins(y_true, y_prob, np.ones(len(y_true)), _N_BINS, "uniform")
    return weighted_calibration_error(y_true, y_prob, weights, bins)


SCORES = {
    "auroc": Score(weighted_auroc),
    "auprc": Score(weighted_auprc),
    "f1": Score(weighted_f1, of_decisions=True),
    "sensitivity": Score(weighted_sensitivity, of_decisions=True),
    "specificity": Score(weighted_specificity, of_decisions=True),
    "ppv": Score(weighted_ppv, of_decisions=True),
    "npv": Score(weighted_npv, of_decisions=True),
    "brier": Score(weighted_brier, of_probabilities=True),
    "log_loss": Score(weighted_log_loss, of_probabilities=True),
    "ece": Score(_calibration_error, of_probabilities=True, grows_with_noise=True),
    "prevalence": Score(_prevalence),
}


def resolve_score(metric, *, name="metric", y_scores=()):
    """Look a score up.

    Parameters
    ----------
    metric : str
        One of `SCORES`.

    name : str, default="metric"
        The parameter's name, for errors.

    y_scores : sequence
        Scores as the user gave them: the log loss clips by the precision of their type.

    Returns
    -------
    score : Score
        The score.
    """
    if not isinstance(metric, str) or metric not in SCORES:
        known = ", ".join(SCORES)
        raise ValueError(f"`{name}` is {metric!r}; pass one of {known}.")
    if metric == "log_loss":
        epsilon = max(map(precision_of, y_scores), default=np.finfo(float).eps)
        return Score(partial(weighted_log_loss, epsilon=epsilon), of_probabilities=True)
    return SCORES[metric]


def precision_of(y_prob):
    """Machine epsilon of the type of probabilities."""
    dtype = np.asarray(y_prob).dtype
    return np.finfo(dtype if np.issubdtype(dtype, np.floating) else float).eps


def read_scores(y_score, y_true, scores, *, name="y_score", labels=None):
    """Check what a classifier gave, as probabilities where one of the scores needs them.

    Parameters
    ----------
    y_score : array-like
        Scores in any form that a classifier gives.

    y_true : ndarray of shape (n_samples, n_labels)
        Checked labels.

    scores : sequence of Score
        What is to be computed.

    name : str, default="y_score"
        The parameter's name, for errors.

    labels : object, default=None
        The labels as the user gave them.

    Returns
    -------
    y_score : ndarray of shape (n_samples, n_labels)
        Scores.
    """
    of_probabilities = any(score.of_probabilities for score in scores)
    check = check_probabilities if of_probabilities else check_scores
    return check(y_score, y_true, name=name, labels=labels)
