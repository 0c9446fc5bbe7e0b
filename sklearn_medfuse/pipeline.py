"""make_medfuse_pipeline: the whole method as a Pipeline that keeps patients together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from .fusion import MEDFuseClassifier
from .fusion._rows import check_named_output
from .labs import BoostedLabEncoder, LabTextSerializer, MaskedLabEncoder
from .model_selection._groups import known_groups
from .notes import LLMNoteEncoder, NaiveBayesNoteEncoder, NoteWordEncoder

__all__ = ["make_medfuse_pipeline"]


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

    def _fit(self, X, y=None, *args, **params):
        output = super()._fit(X, y, *args, **params)
        encode, last = ([None, *(step for _, step in self.steps)])[-2:]
        # Without names the classifier would take several modalities for one.
        if isinstance(encode, ColumnTransformer) and getattr(last, "modalities", None) == "auto":
            check_named_output(encode, output)
        return output

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
                f"fit got groups together with {named}. With groups, parameters of single steps "
                "come by metadata routing: call the step's set_fit_request and pass the parameter "
                "by its own name."
            )
        with sklearn.config_context(enable_metadata_routing=routing or "groups" in params):
            yield params


# What the paper lacks is switched off for views="paper".
_PAPER = {"n_estimators": 1, "linear_weight": 0.0}
# Several views of the same stay make probabilities too sure of themselves.
_FULL = {"calibration": "temperature", "threshold": "tune"}
_VIEWS = ("lab_text", "words", "boosted", "naive_bayes")


def make_medfuse_pipeline(
    lab_columns,
    note_column,
    *,
    views="full",
    lab_encoder=None,
    note_encoder=None,
    memory=None,
    random_state=None,
    verbose=0,
    **medfuse_params,
):
    """Build a Pipeline from labs and notes to diseases that keeps patients together.

    Parameters
    ----------
    lab_columns : list of str or None
        Columns of X that hold lab values; NaN means not measured. None leaves labs out.
    note_column : str, list of str or None
        Column of X that holds the notes, or several. None leaves notes out.
    views : {"full", "paper"} or mapping of str to bool, encoder or tuple, default="full"
        What is read of labs and notes beside their embeddings. "full" takes all views below,
        calibrates probabilities and tunes thresholds: it ranks and decides best on all data at
        hand. "paper" is the method as published: lab text, a mask ratio of 0.75, no factor model,
        one net without linear part, and a note model fine-tuned by LoRA, which takes minutes per
        1,000 notes. A mapping names views one by one, and those it does not name are left out;
        ``{}`` takes the two embeddings alone. Its values are True, False, an encoder, or a tuple
        ``(encoder, columns)`` for a view of your own. The views:

        - "lab_text": abnormal labs written out as text beside the note, the paper's LABTEXT;
          True takes ``LabTextSerializer(column_name="abnormal labs")``, whose limits are quantiles
          of the training values.
        - "words": the words of the notes, which a language model's vector loses
          (`NoteWordEncoder`).
        - "boosted": logits of boosted trees on the raw labs (`BoostedLabEncoder`).
        - "naive_bayes": logits of regressions on the notes' words (`NaiveBayesNoteEncoder`).
    lab_encoder : transformer or None, default=None
        Encoder of the lab columns; None means `MaskedLabEncoder()`. It is cloned.
    note_encoder : transformer or None, default=None
        Encoder of the notes; None means `LLMNoteEncoder()`. It is cloned.
    memory : str, joblib.Memory or None, default=None
        Caches fitted encoders, as in `Pipeline`. Plain joblib writes the start of its input, so
        patient data, in clear text beside the cache; `persistence.PrivateMemory` does not.
    random_state : int, RandomState instance or None, default=None
        Seeds the steps that have no seed of their own.
    verbose : int, default=0
        Verbosity of every step that has none of its own; 1 shows progress.
    **medfuse_params : dict
        Parameters of `MEDFuseClassifier`.

    Returns
    -------
    MEDFusePipeline
        Steps `encode`, a ColumnTransformer with `labs`, `notes` and the further views, and
        `medfuse`. With lab text, `notes` is a Pipeline of `texts`, a ColumnTransformer that puts
        the column made by its part `lab_text` beside the notes, and `encoder`, the note encoder,
        which joins the columns under their names.

    Raises
    ------
    TypeError, ValueError
        If columns, views or parameters are of another kind than described above.

    See Also
    --------
    MEDFuseClassifier : The last step.
    LabTextSerializer : Makes the text of the view "lab_text".

    Notes
    -----
    With the views "boosted" and "naive_bayes" the step `encode` learns from y: train what follows
    on its ``fit_transform``, as Pipeline does.

    Examples
    --------
    >>> from sklearn_medfuse import make_medfuse_pipeline
    >>> pipe = make_medfuse_pipeline(["creatinine", "sodium"], "note", mi_weight=0.5)
    >>> [name for name, *_ in pipe.named_steps["encode"].transformers]
    ['labs', 'notes', 'words', 'boosted', 'naive_bayes']
    >>> pipe.get_params()["medfuse__mi_weight"]
    0.5
    >>> pipe = make_medfuse_pipeline(["creatinine", "sodium"], "note", views={"words": True})
    >>> [name for name, *_ in pipe.named_steps["encode"].transformers]
    ['labs', 'notes', 'words']
    """
    labs = _read_columns(lab_columns, "lab_columns", as_list=True)
    notes = _read_columns(note_column, "note_column")
    if labs is None and notes is None:
        raise ValueError("lab_columns and note_column are both None; give one of them.")
    if views == "paper":
        medfuse_params = _PAPER | medfuse_params
        lab_encoder = lab_encoder or MaskedLabEncoder(mask_ratio=0.75, n_factors=0)
        note_encoder = note_encoder or LLMNoteEncoder(fine_tuning="lora")
    elif views == "full":
        medfuse_params = _FULL | medfuse_params
    chosen = _choose_views(views, labs, notes)
    transformers = []
    if labs is not None:
        transformers.append(("labs", lab_encoder or MaskedLabEncoder(), labs))
    if notes is not None:
        transformers.append(("notes", note_encoder or LLMNoteEncoder(), notes))
    lab_text = chosen.pop("lab_text", None)
    transformers += [(name, *view) for name, view in chosen.items()]
    if "words" in chosen:
        # Components of a decomposition have the sizes that they have for a reason.
        medfuse_params = {"input_scaling": {"words": "block"}} | medfuse_params
    transformers = [(name, clone(encoder), columns) for name, encoder, columns in transformers]
    medfuse = MEDFuseClassifier(**medfuse_params)
    for step in (medfuse, *(encoder for _, encoder, _ in transformers)):
        _set_where_default(step, random_state=random_state, verbose=verbose)
    if lab_text is not None:
        place = [name for name, *_ in transformers].index("notes")
        texts, columns = _with_lab_text(transformers[place][1], notes, lab_text[0], labs)
        transformers[place] = ("notes", texts, columns)
    encode = ColumnTransformer(transformers)
    # The classifier tells the modalities apart by the prefixes of a DataFrame's columns.
    encode.set_output(transform="pandas")
    return MEDFusePipeline([("encode", encode), ("medfuse", medfuse)], memory=memory)


def _read_columns(columns, parameter: str, as_list: bool = False):
    """Refuse what names no columns."""
    if columns is None or (isinstance(columns, str) and not as_list):
        return columns
    if isinstance(columns, str):
        raise TypeError(f"{parameter} is a str; give a list of column names, [{columns!r}].")
    columns = list(columns)
    if not columns or not all(isinstance(name, str) for name in columns):
        raise ValueError(
            f"{parameter} must be a list of one column name or more; give None to leave them out."
        )
    return columns


def _choose_views(views, labs, notes) -> dict:
    """Encoder and columns of each view that is wanted."""
    by_default = {
        "lab_text": (LabTextSerializer(column_name="abnormal labs"), labs),
        "words": (NoteWordEncoder(), notes),
        "boosted": (BoostedLabEncoder(), labs),
        "naive_bayes": (NaiveBayesNoteEncoder(), notes),
    }
    if isinstance(views, str):
        if views not in ("full", "paper"):
            raise ValueError(f"views={views!r} must be 'full', 'paper' or a mapping.")
        names = _VIEWS if views == "full" else ("lab_text",)
        there = {"labs": labs is not None, "notes": notes is not None}
        needed = {"lab_text": ("labs", "notes"), "boosted": ("labs",)}
        views = {n: True for n in names if all(there[m] for m in needed.get(n, ("notes",)))}
    elif not isinstance(views, Mapping):
        raise TypeError(
            f"views is of type {type(views).__name__}; give 'full', 'paper' or a mapping of views "
            "to True, False, an encoder or (encoder, columns)."
        )
    chosen = {}
    for name, view in views.items():
        if view is False:
            continue
        if name in ("labs", "notes") or "__" in str(name):
            raise ValueError(f"views[{name!r}] cannot have this name; choose another one.")
        if isinstance(view, tuple) and len(view) == 2:
            encoder, columns = view
        elif name not in by_default:
            raise ValueError(
                f"views[{name!r}] must be one of {', '.join(_VIEWS)}, or a tuple "
                "(encoder, columns)."
            )
        else:
            encoder, columns = by_default[name] if view is True else (view, by_default[name][1])
        if columns is None or (name == "lab_text" and notes is None):
            raise ValueError(f"views[{name!r}] needs columns that are None; leave the view out.")
        if not hasattr(encoder, "fit") or isinstance(encoder, type):
            raise TypeError(
                f"views[{name!r}] is of type {type(encoder).__name__}; give True, False, an "
                "encoder or (encoder, columns)."
            )
        if name == "lab_text" and not isinstance(encoder, LabTextSerializer):
            raise TypeError(
                f"views['lab_text'] is of type {type(encoder).__name__}; give a LabTextSerializer."
            )
        chosen[str(name)] = encoder, columns
    return chosen


def _set_where_default(step, **params) -> None:
    """Set parameters of a step, or of the steps of a Pipeline, that are at their default."""
    if isinstance(step, Pipeline):
        for _, part in step.steps:
            if part != "passthrough":
                _set_where_default(part, **params)
        return
    current = step.get_params(deep=False)
    for name, value in params.items():
        if name in current and value is not None and current[name] in (None, 0):
            step.set_params(**{name: value})


def _with_lab_text(note_encoder, notes, lab_text, labs):
    """Put the text of the labs beside the note: (notes' pipeline, the columns it reads)."""
    note_columns = [notes] if isinstance(notes, str) else list(notes)
    texts = ColumnTransformer(
        # The name of its column stands above the text; the note's stands above the note.
        [("note", "passthrough", note_columns), ("lab_text", clone(lab_text), labs)],
        verbose_feature_names_out=False,
    )
    texts.set_output(transform="pandas")
    return Pipeline([("texts", texts), ("encoder", note_encoder)]), [*note_columns, *labs]
