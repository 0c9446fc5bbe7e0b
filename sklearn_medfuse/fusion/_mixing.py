"""How much the linear part counts beside the net, learned on rows that neither was trained on."""

import numpy as np

from ._decisions import best_temperature
from ._targets import Targets

_SHARES = np.linspace(0.0, 1.0, 21)


def mix(deep: np.ndarray, linear: np.ndarray, share: float) -> np.ndarray:
    """The mean of two models' logits, the linear one's with a share of it."""
    return (1 - share) * deep + share * linear


def choose_linear_weight(targets: Targets, deep, linear, y, weight) -> float:
    """Share of the linear part with which the mean of the logits predicts best.

    Shares are compared by the log loss under the best temperature of each: a net that is too sure
    of itself would else be mixed away for that alone.

    Parameters
    ----------
    targets, y, weight
        As in `fit_temperatures`.
    deep : float array of shape (n, n_outputs)
        Logits of the net, for rows that were not trained on.
    linear : float array of shape (n, n_outputs)
        Those of the linear part.

    Returns
    -------
    float
        Of 0, 0.05, …, 1 the best.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([[0], [0], [1], [1]] * 5)
    >>> right, wrong = 4.0 * y - 2.0, np.tile([[1.0], [-1.0]], (10, 1))
    >>> targets = Targets("multilabel-indicator", np.array([0]), np.array([np.nan]))
    >>> choose_linear_weight(targets, wrong, right, y, np.ones((20, 1)))
    1.0
    """
    losses = [
        best_temperature(targets, mix(deep, linear, share), y, weight)[1] for share in _SHARES
    ]
    return float(_SHARES[np.argmin(losses)])
