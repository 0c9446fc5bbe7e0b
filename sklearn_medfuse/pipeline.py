"""make_medfuse_pipeline: the whole method as a plain scikit-learn Pipeline."""

from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from .fusion import MEDFuseClassifier
from .labs import MaskedLabEncoder
from .notes import LLMNoteEncoder


def make_medfuse_pipeline(
    lab_columns,
    note_column,
    *,
    lab_encoder=None,
    note_encoder=None,
    memory=None,
    random_state=None,
    **medfuse_params,
):
    """Build labs + notes → diseases as a Pipeline.

    Parameters
    ----------
    lab_columns : list of str
        Columns of X that hold lab values; NaN means not measured.
    note_column : str
        Column of X that holds the notes.
    lab_encoder : transformer or None, default=None
        Encoder of the lab columns; None means `MaskedLabEncoder()`. It is cloned.
    note_encoder : transformer or None, default=None
        Encoder of the notes; None means `LLMNoteEncoder()`. It is cloned.
    memory : str, joblib.Memory or None, default=None
        Caches fitted encoders, as in `Pipeline`. Plain joblib writes the start of its input, so
        patient data, in clear text beside the cache.
    random_state : int, RandomState instance or None, default=None
        Seeds every step that draws random numbers.
    **medfuse_params : dict
        Parameters of `MEDFuseClassifier`.

    Returns
    -------
    Pipeline
        Steps `encode`, a ColumnTransformer with `labs` and `notes`, and `medfuse`.

    See Also
    --------
    MEDFuseClassifier : The last step.

    Examples
    --------
    >>> from sklearn_medfuse import make_medfuse_pipeline
    >>> pipe = make_medfuse_pipeline(["creatinine", "sodium"], "note", mi_weight=0.5)
    >>> [name for name, _ in pipe.steps]
    ['encode', 'medfuse']
    >>> pipe.get_params()["medfuse__mi_weight"]
    0.5
    """
    labs = MaskedLabEncoder() if lab_encoder is None else clone(lab_encoder)
    notes = LLMNoteEncoder() if note_encoder is None else clone(note_encoder)
    medfuse = MEDFuseClassifier(**medfuse_params)
    for step in (labs, notes, medfuse):
        if random_state is not None and "random_state" in step.get_params(deep=False):
            step.set_params(random_state=random_state)
    encode = ColumnTransformer([("labs", labs, list(lab_columns)), ("notes", notes, note_column)])
    # the classifier tells the modalities apart by the prefixes of a DataFrame's columns
    encode.set_output(transform="pandas")
    return Pipeline([("encode", encode), ("medfuse", medfuse)], memory=memory)
