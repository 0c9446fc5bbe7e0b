"""Whether attributions are faithful: take out what they name first, and see the prediction fall."""

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ._lab_attributions import LabAttributions, LabRemover
from ._note_attributions import NoteAttributions, predict_with_notes
from ._note_units import without_units
from ._variants import VariantModel


def deletion_curve(
    estimator, X, attributions, label, *, max_deleted=5, n_random=10, random_state=None
):
    """Take out the features that an attribution names first, and as many at random.

    Faithful attributions name features without which the model's probability falls sooner than
    without random ones [1]_. Labs are set to the baseline of the attributions, units of notes are
    left out; only labs that were measured are drawn.

    Parameters
    ----------
    estimator : estimator
        The one that was attributed.

    X : DataFrame of shape (n_stays, n_columns)
        The stays that were attributed.

    attributions : LabAttributions or NoteAttributions
        What to test.

    label : str
        The label by name.

    max_deleted : int, default=5
        Features to take out of each stay at most; a stay with fewer keeps none.

    n_random : int, default=10
        Random orders.

    random_state : int, RandomState instance or None, default=None
        Source of the random orders.

    Returns
    -------
    DataFrame of shape (max_deleted + 1, 3)
        Mean probability over the stays by number of features taken out (index `n_deleted`):
        `attributed`, the most positive first; `random`, the mean of the random orders, with
        their standard deviation `random_std`.

    Raises
    ------
    ValueError
        If attributions and X do not agree, the label is unknown or a number is below 1.

    References
    ----------
    .. [1] W. Samek et al., "Evaluating the visualization of what a deep neural network has
       learned", IEEE TNNLS 2017.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import deletion_curve, lab_attributions
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, sick = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = HistGradientBoostingClassifier(max_iter=20).fit(labs, sick)
    >>> found = lab_attributions(model, labs[:20], cohort.lab_columns, random_state=0)
    >>> curve = deletion_curve(model, labs[:20], found, "1", random_state=0)
    >>> bool(curve["attributed"].iloc[-1] < curve["random"].iloc[-1])
    True
    """
    model = VariantModel(estimator, X)
    if max_deleted < 1 or n_random < 1:
        raise ValueError("max_deleted and n_random must be at least 1.")
    if len(attributions.effects) != len(model.X):
        raise ValueError(
            f"attributions are of {len(attributions.effects)} stays and X has {len(model.X)} rows; "
            "pass the rows that were attributed."
        )
    if label not in attributions.label_names:
        raise ValueError(f"label={label!r} is none of {attributions.label_names}.")
    column = attributions.label_names.index(label)
    scores = [np.asarray(of_stay)[:, column] for of_stay in attributions.effects]
    players = _players(attributions)
    rng = check_random_state(random_state)
    best_first = [
        each[np.argsort(-score[each])] for each, score in zip(players, scores, strict=True)
    ]
    orders = [best_first]
    orders += [[rng.permutation(each) for each in players] for _ in range(n_random)]
    output = model.choose_labels(label)[0]
    curves = np.array([_curve(model, attributions, order, max_deleted, output) for order in orders])
    return pd.DataFrame(
        {
            "attributed": curves[0],
            "random": curves[1:].mean(axis=0),
            "random_std": curves[1:].std(axis=0),
        },
        index=pd.RangeIndex(max_deleted + 1, name="n_deleted"),
    )


def _players(attributions) -> list[np.ndarray]:
    """Features of each stay that can be taken out."""
    if isinstance(attributions, LabAttributions):
        return [np.flatnonzero(there) for there in attributions.measured]
    if isinstance(attributions, NoteAttributions):
        return [np.arange(len(of_note)) for of_note in attributions.spans]
    raise ValueError(
        f"attributions is of type {type(attributions).__name__}; pass what lab_attributions or "
        "note_attributions gives."
    )


def _curve(model: VariantModel, attributions, orders, max_deleted: int, output: int) -> np.ndarray:
    """Mean probability with 0, 1, … of each stay's features taken out."""
    rows = np.repeat(np.arange(len(orders)), max_deleted + 1)
    deleted = [
        orders[row][:count] for row in range(len(orders)) for count in range(max_deleted + 1)
    ]
    if isinstance(attributions, LabAttributions):
        baseline = "missing" if attributions.baseline is None else attributions.baseline
        remover = LabRemover(model.X, attributions.lab_names, baseline)
        kept = np.ones((len(rows), len(attributions.lab_names)), dtype=bool)
        for copy, labs in enumerate(deleted):
            kept[copy, labs] = False
        found = model.predict(rows, remover.copies(rows, kept), attributions.lab_names)
    else:
        notes = model.X[attributions.note_column].tolist()
        texts = [
            without_units(notes[row], attributions.spans[row], units) if len(units) else notes[row]
            for row, units in zip(rows, deleted, strict=True)
        ]
        found = predict_with_notes(model, attributions.note_column, rows, texts)
    return found[:, output].reshape(len(orders), -1).mean(axis=0)
