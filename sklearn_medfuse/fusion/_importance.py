"""How much a score falls when a modality is shuffled."""

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state


def permute_modalities(
    model, modalities: dict[str, np.ndarray], X, y, scoring, n_repeats: int, random_state
) -> Bunch:
    """Score with the rows of one modality's block shuffled as a whole, absences and all.

    Parameters
    ----------
    model : ScoredModel
        What is scored.
    modalities : dict of str to int64 array
        Columns of each modality.
    X : float array of shape (n_rows, n_features)
        Vectors in the columns of fit.
    y : array-like of shape (n_rows,) or (n_rows, n_labels)
        Targets.
    scoring : str or callable
        As in scikit-learn.
    n_repeats : int
        Shuffles of each modality.
    random_state : int, RandomState instance or None
        Source of the shuffles.

    Returns
    -------
    Bunch
        As `MEDFuseClassifier.modality_importance` says.
    """
    rng = check_random_state(random_state)
    score = check_scoring(model, scoring)
    whole = score(model, X, y)
    falls = np.empty((len(modalities), n_repeats))
    for position, block in enumerate(modalities.values()):
        for repeat in range(n_repeats):
            shuffled = X.copy()
            shuffled[:, block] = X[rng.permutation(len(X))][:, block]
            falls[position, repeat] = whole - score(model, shuffled, y)
    return Bunch(
        modalities=list(modalities),
        importances_mean=falls.mean(axis=1),
        importances_std=falls.std(axis=1),
        importances=falls,
        score=whole,
    )
