"""make_medfuse_pipeline: the whole method as a Pipeline that keeps patients together."""

from collections.abc import Iterator
from contextlib import contextmanager

import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from .fusion import MEDFuseClassifier
from .labs import BoostedLabEncoder, LabTextSerializer, MaskedLabEncoder
from .model_selection._groups import known_groups
from .notes import LLMNoteEncoder, NaiveBayesNoteEncoder, NoteWordEncoder


class MEDFusePipeline(Pipeline):
    """A Pipeline whose ``fit`` takes `groups` and keeps their rows together in every split inside.

    In all else it is scikit-learn's Pipeline, with its parameters. Cross-fitted views, decision
    folds, early stopping and fine-tuning split rows inside ``fit``; stays of one patient must not
    lie on both sides.

    Parameters
    ----------
    steps : list of (str, estimator)
        As in Pipeline.
    transform_input : list of str or None, default=None
        As in Pipeline.
    memory : str, joblib.Memory or None, default=None
        As in Pipeline.
    verbose : bool, default=False
        As in Pipeline.

    See Also
    --------
    make_medfuse_pipeline : Builds one.

    Notes
    -----
    ``fit(X, y, groups=patients)`` switches scikit-learn's metadata routing on for the call; the
    steps ask for `groups` by default. A step of your own that takes `groups` says by
    ``set_fit_request`` whether it wants them.

    Where routing is off, ``GridSearchCV(pipe, cv=cv).fit(X, y, groups=patients)``,
    ``cross_val_predict`` and their like hand the groups to `cv` alone. A splitter of
    `sklearn_medfuse.model_selection` remembers them, a pipeline that is cloned after the split
    takes them along, and its ``fit`` finds the groups of its rows by their content. With other
    splitters switch routing on: ``sklearn.set_config(enable_metadata_routing=True)``.

    Examples
    --------
    >>> from sklearn_medfuse import make_medfuse_pipeline
    >>> type(make_medfuse_pipeline(["sodium"], "note")).__name__
    'MEDFusePipeline'
    """

    def fit(self, X, y=None, **params):
        """Fit the steps one after the other.

        Parameters
        ----------
        X : DataFrame
            One row per stay.
        y : array-like of shape (n_rows,) or (n_rows, n_labels), default=None
            Classes or labels.
        **params : dict
            `groups`, array-like of shape (n_rows,), the patient of each row; and what Pipeline
            takes.

        Returns
        -------
        MEDFusePipeline
            The fitted pipeline.
        """
        with self._routed(X, params) as params:
            return super().fit(X, y, **params)

    def fit_transform(self, X, y=None, **params):
        """Fit the steps and transform with the last one.

        Parameters
        ----------
        X : DataFrame
            One row per stay.
        y : array-like of shape (n_rows,) or (n_rows, n_labels), default=None
            Classes or labels.
        **params : dict
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_transformed_features)
            What the last step makes of X.
        """
        with self._routed(X, params) as params:
            return super().fit_transform(X, y, **params)

    def fit_predict(self, X, y=None, **params):
        """Fit the steps and predict the same rows with the last one.

        Parameters
        ----------
        X : DataFrame
            One row per stay.
        y : array-like of shape (n_rows,) or (n_rows, n_labels), default=None
            Classes or labels.
        **params : dict
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_labels)
            Predictions.
        """
        with self._routed(X, params) as params:
            return super().fit_predict(X, y, **params)

    def __sklearn_clone__(self):
        """Clone the pipeline; the copy takes along which rows a splitter has kept together."""
        copy = super().__sklearn_clone__()
        if (known := known_groups()) is not None:
            copy._known_groups = known
        return copy

    @contextmanager
    def _routed(self, X, params: dict) -> Iterator[dict]:
        """Yield the parameters of fit, with routing switched on where they name groups."""
        known = self.__dict__.pop("_known_groups", None)
        routing = sklearn.get_config()["enable_metadata_routing"]
        if not routing and "groups" not in params and known is not None:
            params = params | {"groups": known.of(X)}
        if params.get("groups") is None:
            params = {name: value for name, value in params.items() if name != "groups"}
        elif any("__" in name for name in params) and not routing:
            named = ", ".join(sorted(name for name in params if "__" in name))
            raise ValueError(
                f"fit got groups beside {named}. With groups, parameters of single steps come by "
                "metadata routing: call the step's set_fit_request and pass the parameter by its "
                "own name."
            )
        with sklearn.config_context(enable_metadata_routing=routing or "groups" in params):
            yield params


def make_medfuse_pipeline(
    lab_columns,
    note_column,
    *,
    lab_encoder=None,
    note_encoder=None,
    lab_text=False,
    words=False,
    boosted_labs=False,
    naive_bayes_notes=False,
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
    lab_text : bool or LabTextSerializer, default=False
        Write the abnormal labs out as text too and give them to the note encoder beside the
        note, the paper's LABTEXT. True takes `LabTextSerializer(column_name="abnormal labs")`,
        whose limits are quantiles of the training values; one given, with reference ranges and
        units, is cloned. A stay without a note that has such a text has notes as a modality.
    words : bool or NoteWordEncoder, default=False
        Give the note's words as a third modality beside the language model's vector, which loses
        them. True takes `NoteWordEncoder()`; one given is cloned.
    boosted_labs : bool or BoostedLabEncoder, default=False
        Give what boosted trees say of the raw labs as a further modality, "boosted". True takes
        `BoostedLabEncoder()`; one given is cloned. `encode` is then learned with y: train on what
        its `fit_transform` gives, as Pipeline does.
    naive_bayes_notes : bool or NaiveBayesNoteEncoder, default=False
        Give what regressions on the note's words say of the labels as a further modality,
        "naive_bayes". True takes `NaiveBayesNoteEncoder()`; one given is cloned. `encode` is then
        learned with y, as with `boosted_labs`. Several views of the same notes make probabilities
        too sure, which `calibration="temperature"` puts right.
    memory : str, joblib.Memory or None, default=None
        Caches fitted encoders, as in `Pipeline`. Plain joblib writes the start of its input, so
        patient data, in clear text beside the cache; `persistence.PrivateMemory` does not.
    random_state : int, RandomState instance or None, default=None
        Seeds every step that draws random numbers.
    **medfuse_params : dict
        Parameters of `MEDFuseClassifier`.

    Returns
    -------
    MEDFusePipeline
        Steps `encode`, a ColumnTransformer with `labs`, `notes` and, if asked for, `words`,
        `boosted` and `naive_bayes`, and `medfuse`. With `lab_text`, `notes` is a Pipeline of
        `texts`, a ColumnTransformer that puts the column made by its part `lab_text` beside the
        notes, and `encoder`, the note encoder, which joins the columns under their names.

    See Also
    --------
    MEDFuseClassifier : The last step.
    LabTextSerializer : Makes the text of `lab_text`.

    Examples
    --------
    >>> from sklearn_medfuse import make_medfuse_pipeline
    >>> pipe = make_medfuse_pipeline(["creatinine", "sodium"], "note", mi_weight=0.5)
    >>> [name for name, _ in pipe.steps]
    ['encode', 'medfuse']
    >>> pipe.get_params()["medfuse__mi_weight"]
    0.5
    >>> pipe = make_medfuse_pipeline(["creatinine", "sodium"], "note", lab_text=True)
    >>> [name for name, _ in pipe.get_params()["encode__notes"].steps]
    ['texts', 'encoder']
    """
    labs = MaskedLabEncoder() if lab_encoder is None else clone(lab_encoder)
    notes = LLMNoteEncoder() if note_encoder is None else clone(note_encoder)
    lab_columns = list(lab_columns)
    further = [
        ("words", words, NoteWordEncoder, note_column),
        ("boosted", boosted_labs, BoostedLabEncoder, lab_columns),
        ("naive_bayes", naive_bayes_notes, NaiveBayesNoteEncoder, note_column),
    ]
    views = [
        (name, encoder_class() if choice is True else clone(choice), columns)
        for name, choice, encoder_class, columns in further
        if choice is not False
    ]
    if words is not False:
        # components of a decomposition have the sizes that they have for a reason
        medfuse_params = {"input_scaling": {"words": "block"}} | medfuse_params
    medfuse = MEDFuseClassifier(**medfuse_params)
    for step in (labs, notes, medfuse, *(view[1] for view in views)):
        if random_state is not None and "random_state" in step.get_params(deep=False):
            step.set_params(random_state=random_state)
    if lab_text is not False:
        notes, note_column = _with_lab_text(notes, note_column, lab_text, lab_columns)
    views = [("labs", labs, lab_columns), ("notes", notes, note_column), *views]
    encode = ColumnTransformer(views)
    # the classifier tells the modalities apart by the prefixes of a DataFrame's columns
    encode.set_output(transform="pandas")
    return MEDFusePipeline([("encode", encode), ("medfuse", medfuse)], memory=memory)


def _with_lab_text(note_encoder, note_column, lab_text, lab_columns):
    """Put the text of the labs beside the note: (notes' pipeline, the columns it reads)."""
    if lab_text is True:
        # its name stands above the text; the note's stands above the note
        lab_text = LabTextSerializer(column_name="abnormal labs")
    elif not isinstance(lab_text, LabTextSerializer):
        raise TypeError(
            f"lab_text is of type {type(lab_text).__name__}; give True, False or a "
            "LabTextSerializer."
        )
    note_columns = [note_column] if isinstance(note_column, str) else list(note_column)
    texts = ColumnTransformer(
        [("note", "passthrough", note_columns), ("lab_text", clone(lab_text), lab_columns)],
        verbose_feature_names_out=False,
    )
    texts.set_output(transform="pandas")
    return Pipeline([("texts", texts), ("encoder", note_encoder)]), [*note_columns, *lab_columns]
