"""make_medfuse_pipeline: the whole method as a Pipeline that keeps patients together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import HasMethods, validate_params
from sklearn.utils.metaestimators import available_if

from ._input_data import to_pandas
from ._table_encoder import TableEncoder
from .fusion import MEDFuseClassifier
from .fusion._rows import check_named_output
from .labs import BoostedLabEncoder, LabTextSerializer, MaskedLabEncoder
from .model_selection._groups import known_groups
from .notes import LLMNoteEncoder, NaiveBayesNoteEncoder, NoteWordEncoder

__all__ = ["MEDFusePipeline", "make_medfuse_pipeline"]


def _of_any_table(name: str):
    """Pipeline's method on a table of any library; one that fits takes `groups`."""
    inherited = getattr(Pipeline, name)

    @available_if(lambda pipe: getattr(super(MEDFusePipeline, pipe), name) is not None)
    @wraps(inherited)
    def method(self, X, *args, **params):
        X = to_pandas(X)
        if not name.startswith("fit_"):
            return inherited(self, X, *args, **params)
        with self._routed(X, params) as params:
            return inherited(self, X, *map(to_pandas, args), **params)

    method.__doc__ = f"Do what Pipeline's `{name}` does, on a table of any library."
    return method


class MEDFusePipeline(Pipeline):
    """A Pipeline whose ``fit`` takes `groups` and keeps each group together in every split inside.

    Otherwise it is scikit-learn's Pipeline, with the same parameters. Cross-fitted views, decision
    folds, early stopping and fine-tuning split rows inside ``fit``; stays of one patient must not
    be on both sides.

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
    steps request `groups` by default. A step of your own that takes `groups` declares with
    ``set_fit_request`` whether it wants them.

    Without routing, ``GridSearchCV(pipe, cv=cv).fit(X, y, groups=patients)``,
    ``cross_val_predict`` and the like pass the groups to `cv` only. A splitter of
    `sklearn_medfuse.model_selection` remembers them, a pipeline cloned after the split carries
    them along, and its ``fit`` finds the groups of its rows by the rows' content. With other
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
            One row per stay, as a pandas or polars DataFrame or an Arrow table.
        y : array-like of shape (n_rows,) or (n_rows, n_labels), default=None
            Classes or labels.
        **params : dict
            `groups`, array-like of shape (n_rows,), the patient of each row, and the parameters
            of Pipeline's ``fit``.

        Returns
        -------
        MEDFusePipeline
            The fitted pipeline.
        """
        X = to_pandas(X)
        with self._routed(X, params) as params:
            return super().fit(X, to_pandas(y), **params)

    fit_transform = _of_any_table("fit_transform")
    fit_predict = _of_any_table("fit_predict")
    transform = _of_any_table("transform")
    predict = _of_any_table("predict")
    predict_proba = _of_any_table("predict_proba")
    predict_log_proba = _of_any_table("predict_log_proba")
    decision_function = _of_any_table("decision_function")
    score = _of_any_table("score")
    score_samples = _of_any_table("score_samples")

    def _fit(self, X, y=None, *args, **params):
        output = super()._fit(X, y, *args, **params)
        encode, last = ([None, *(step for _, step in self.steps)])[-2:]
        # Without names the classifier would take several modalities for one
        if isinstance(encode, ColumnTransformer) and getattr(last, "modalities", None) == "auto":
            check_named_output(encode, output)
        return output

    def __sklearn_clone__(self):
        """Clone the pipeline; the copy remembers which rows a splitter kept together."""
        copy = super().__sklearn_clone__()
        if (known := known_groups()) is not None:
            copy._known_groups = known
        return copy

    @contextmanager
    def _routed(self, X, params: dict) -> Iterator[dict]:
        """Yield the parameters of fit, with routing switched on if they include groups."""
        known = self.__dict__.pop("_known_groups", None)
        routing = sklearn.get_config()["enable_metadata_routing"]
        if not routing and "groups" not in params and known is not None:
            params = params | {"groups": known.of(X)}
        if params.get("groups") is None:
            params = {name: value for name, value in params.items() if name != "groups"}
        elif any("__" in name for name in params) and not routing:
            named = ", ".join(sorted(name for name in params if "__" in name))
            raise ValueError(
                f"fit got groups together with {named}. With groups, metadata routing passes the "
                "parameters of single steps: call the step's set_fit_request and pass the "
                "parameter under its own name."
            )
        with sklearn.config_context(enable_metadata_routing=routing or "groups" in params):
            yield params


# "paper" switches off what the paper lacks. NOTE[DIFF] (further views): "full" also reads words,
# trees on raw labs and naive Bayes, and calibrates: several views of one stay are overconfident.
_SETTINGS: dict[str, dict[str, dict]] = {
    "paper": {
        "medfuse": {"n_estimators": 1, "linear_weight": 0.0, "mi_weight": 0.1},
        "labs": {"mask_ratio": 0.75, "n_factors": 0},
        "notes": {"fine_tuning": "lora"},
    },
    "full": {"medfuse": {"calibration": "sigmoid", "threshold": "tune"}},
}
_VIEWS = ("lab_text", "words", "boosted", "naive_bayes")


@validate_params(
    {
        "memory": [str, HasMethods(["cache"]), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def make_medfuse_pipeline(
    lab_columns,
    note_column,
    *,
    tables=None,
    views="full",
    lab_encoder=None,
    note_encoder=None,
    reference_ranges=None,
    units=None,
    memory=None,
    random_state=None,
    verbose=0,
    **medfuse_params,
):
    """Build a Pipeline from labs, notes and other columns to diseases that keeps patients together.

    Parameters
    ----------
    lab_columns : list of str or None
        Columns of X that hold lab values; NaN means not measured. None leaves labs out.
    note_column : str, list of str or None
        Column of X that holds the notes, or several. None leaves notes out.
    tables : mapping of str to list of str, default=None
        Ordinary columns, numbers or categories: name of a modality to its columns, such as
        ``{"demographics": cohort.demographic_columns}``. `TableEncoder` reads each.
    views : {"full", "paper"} or mapping of str to bool, encoder or tuple, default="full"
        What to read from labs and notes besides their embeddings. "full" takes all views below,
        calibrates probabilities and tunes thresholds: it ranks and decides best on all data at
        hand. "paper" is the method as published: lab text, a mask ratio of 0.75, no factor model,
        one net without a linear part, ``mi_weight=0.1``, and a note model fine-tuned by LoRA, which
        takes minutes per 1,000 notes; give `reference_ranges` and `units` with it. A mapping names
        views one by one and leaves out the rest; ``{}`` takes only the two embeddings. Its values
        are True, False, an encoder, or a tuple ``(encoder, columns)`` for a view of your own. The
        views:

        - "lab_text": abnormal labs written out as text beside the note, the paper's LABTEXT;
          True takes ``LabTextSerializer(column_name="abnormal labs")`` with `reference_ranges` and
          `units`.
        - "words": the words of the notes, which a language model's vector loses
          (`NoteWordEncoder`).
        - "boosted": logits of boosted trees on the raw labs (`BoostedLabEncoder`).
        - "naive_bayes": logits of regressions on the notes' words (`NaiveBayesNoteEncoder`).
    lab_encoder : transformer or None, default=None
        Encoder of the lab columns; None means `MaskedLabEncoder()`. It is cloned.
    note_encoder : transformer or None, default=None
        Encoder of the notes; None means `LLMNoteEncoder()`. It is cloned.
    reference_ranges : mapping of str to (low, high), default=None
        Reference range of labs by column, for the view "lab_text", such as
        ``cohort.reference_ranges``. Labs without one are judged by quantiles of the training
        values.
    units : mapping of str to str, default=None
        Units by column, for the view "lab_text", such as ``cohort.units``.
    memory : str, joblib.Memory or None, default=None
        Caches fitted encoders, as in `Pipeline`. Plain joblib writes the start of its input, which
        is patient data, in clear text beside the cache; `persistence.PrivateMemory` does not.
    random_state : int, RandomState instance or None, default=None
        Seeds the steps, and estimators in them, that have no seed of their own.
    verbose : int, default=0
        Verbosity of every step that has none of its own; 1 shows progress.
    **medfuse_params : dict
        Parameters of `MEDFuseClassifier`.

    Returns
    -------
    MEDFusePipeline
        Steps `encode`, a ColumnTransformer with `labs`, `notes`, the tables and the further views,
        and `medfuse`. With lab text, `notes` is a Pipeline of `texts`, a ColumnTransformer that
        puts the column made by its part `lab_text` beside the notes, and `encoder`, the note
        encoder, which joins the columns under their names.

    Raises
    ------
    TypeError, ValueError
        If columns, tables, views or parameters are not as described above, or if nothing is left
        to read.

    See Also
    --------
    MEDFuseClassifier : The last step.
    LabTextSerializer : Makes the text of the view "lab_text".
    TableEncoder : Reads the tables.

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
    >>> pipe = make_medfuse_pipeline(
    ...     ["creatinine"], "note", tables={"demographics": ["age", "sex"]}, views={"words": True}
    ... )
    >>> [name for name, *_ in pipe.named_steps["encode"].transformers]
    ['labs', 'notes', 'demographics', 'words']
    """
    labs = _read_columns(lab_columns, "lab_columns")
    notes = (
        note_column if isinstance(note_column, str) else _read_columns(note_column, "note_column")
    )
    written = {"reference_ranges": reference_ranges, "units": units}
    chosen = _choose_views(views, labs, notes, written)
    settings = _SETTINGS[views] if isinstance(views, str) else {}
    parts: dict = {}
    for name, columns, encoder, default in (
        ("labs", labs, lab_encoder, MaskedLabEncoder),
        ("notes", notes, note_encoder, LLMNoteEncoder),
    ):
        if encoder is not None:
            _check_encoder(encoder, f"{name[:-1]}_encoder", "an encoder or None")
            if columns is None:
                raise ValueError(f"{name[:-1]}_encoder is given, but no columns for it to read.")
            parts[name] = encoder, columns
        elif columns is not None:
            parts[name] = default(**settings.get(name, {})), columns
    lab_text = chosen.pop("lab_text", None)
    _check_written(written, lab_text, labs)
    tables = _read_tables(tables, {*_VIEWS, *chosen}, {*(labs or ()), *_as_list(notes)})
    parts |= {name: (TableEncoder(), columns) for name, columns in tables.items()} | chosen
    if not parts:
        raise ValueError(
            "lab_columns, note_column and tables are None or empty, and views has no view of your "
            "own; give at least one of them."
        )
    # The relative sizes of these columns carry meaning
    blocks = dict.fromkeys((name for name in parts if name == "words" or name in tables), "block")
    scaling = {"input_scaling": blocks} if blocks else {}
    medfuse = MEDFuseClassifier(**scaling | settings.get("medfuse", {}) | medfuse_params)
    medfuse._validate_params()
    parts = {name: (clone(encoder), columns) for name, (encoder, columns) in parts.items()}
    for step in (medfuse, *(encoder for encoder, _ in parts.values())):
        _set_where_default(step, random_state, verbose)
    if lab_text is not None:
        parts["notes"] = _with_lab_text(parts["notes"][0], notes, lab_text[0], labs)
    encode = ColumnTransformer(
        [(name, *part) for name, part in parts.items()], verbose=bool(verbose)
    )
    # The classifier tells the modalities apart by the prefixes of a DataFrame's columns
    encode.set_output(transform="pandas")
    return MEDFusePipeline([("encode", encode), ("medfuse", medfuse)], memory=memory)


def _read_columns(columns, parameter: str):
    """Return column names as a list; refuse anything else."""
    if columns is None:
        return None
    if isinstance(columns, str):
        raise TypeError(f"{parameter} is a str; give a list of column names, [{columns!r}].")
    columns = list(columns) if np.iterable(columns) else []
    if not columns or not all(isinstance(name, str) for name in columns):
        raise ValueError(f"{parameter} must be a list of one or more column names, or be left out.")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise ValueError(f"{parameter} names {', '.join(twice)} more than once.")
    return columns


def _as_list(columns) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns or ())


def _check_name(name, place: str) -> None:
    if not isinstance(name, str) or not name or "__" in name or name in ("labs", "notes"):
        raise ValueError(
            f"{place} cannot have this name; choose another one, without '__'. The parameters "
            "lab_encoder and note_encoder set how labs and notes are read."
        )


def _check_encoder(encoder, place: str, wanted: str) -> None:
    if isinstance(encoder, type) or not (hasattr(encoder, "fit") and hasattr(encoder, "transform")):
        raise TypeError(f"{place} is of type {type(encoder).__name__}; give {wanted}.")


def _read_tables(tables, taken: set[str], of_others: set[str]) -> dict[str, list[str]]:
    """Columns of each table; refuse names and columns of other modalities."""
    if not isinstance(tables, Mapping | None):
        raise TypeError(
            f"tables is of type {type(tables).__name__}; give a mapping of names to lists of "
            "columns, {'demographics': ['age', 'sex']}."
        )
    read = {}
    for name, columns in (tables or {}).items():
        place = f"tables[{name!r}]"
        _check_name(name, place)
        if name in taken:
            raise ValueError(f"{place} has the name of a view; choose another one.")
        read[name] = _read_columns(() if columns is None else columns, place)
        if shared := [column for column in read[name] if column in of_others]:
            raise ValueError(
                f"{place} names {', '.join(shared)}, which lab_columns, note_column or another "
                "table names too; leave it out of one."
            )
        of_others = of_others | {*read[name]}
    return read


def _choose_views(views, labs, notes, written) -> dict:
    """Encoder and columns of each view that is wanted."""
    by_default = {
        "lab_text": (LabTextSerializer(column_name="abnormal labs", **written), notes and labs),
        "words": (NoteWordEncoder(), notes),
        "boosted": (BoostedLabEncoder(), labs),
        "naive_bayes": (NaiveBayesNoteEncoder(), notes),
    }
    if isinstance(views, str):
        if views not in ("full", "paper"):
            raise ValueError(f"views={views!r} must be 'full', 'paper' or a mapping.")
        names = _VIEWS if views == "full" else ("lab_text",)
        return {name: by_default[name] for name in names if by_default[name][1] is not None}
    if not isinstance(views, Mapping):
        raise TypeError(
            f"views is of type {type(views).__name__}; give 'full', 'paper' or a mapping of views "
            "to True, False, an encoder or (encoder, columns)."
        )
    chosen = {}
    for name, view in views.items():
        if view is False:
            continue
        place = f"views[{name!r}]"
        _check_name(name, place)
        if isinstance(view, tuple) and len(view) == 2 and name != "lab_text":
            encoder, columns = view
        elif name in by_default:
            encoder, columns = by_default[name] if view is True else (view, by_default[name][1])
        else:
            raise ValueError(
                f"{place} must be one of {', '.join(_VIEWS)}, or a tuple (encoder, columns)."
            )
        if columns is None:
            raise ValueError(f"{place} reads columns that are None; leave the view out.")
        _check_encoder(encoder, place, "True, False, an encoder or (encoder, columns)")
        if name == "lab_text" and not isinstance(encoder, LabTextSerializer):
            kind = type(encoder).__name__
            raise TypeError(f"{place} is of type {kind}; give a LabTextSerializer.")
        chosen[name] = encoder, columns
    return chosen


def _check_written(written: dict, lab_text, labs) -> None:
    """Refuse ranges and units that no lab text will show."""
    for parameter, by_lab in written.items():
        if by_lab is None:
            continue
        if not isinstance(by_lab, Mapping):
            raise TypeError(
                f"{parameter} is of type {type(by_lab).__name__}; give a mapping of lab columns, "
                f"such as cohort.{parameter}."
            )
        if lab_text is None or getattr(lab_text[0], parameter) is not by_lab:
            raise ValueError(
                f"{parameter} is for the view 'lab_text', which is left out or has its own "
                f"serializer; leave {parameter} out too, or give it to the serializer."
            )
        if unknown := [name for name in by_lab if name not in labs]:
            raise ValueError(
                f"{parameter} names {unknown}, which are not in lab_columns; leave them out."
            )


def _set_where_default(step, random_state, verbose) -> None:
    """Set seed and verbosity where a step, or an estimator in it, has none."""
    for name, value in step.get_params().items():
        parameter = name.rpartition("__")[2]
        if parameter == "random_state" and value is None:
            step.set_params(**{name: random_state})
        elif parameter == "verbose" and not value:
            # Scikit-learn's Pipeline takes no number
            step.set_params(**{name: bool(verbose) if value is False else verbose})


def _with_lab_text(note_encoder, notes, lab_text, labs):
    """Put the text of the labs beside the note: (notes' pipeline, the columns it reads)."""
    note_columns = _as_list(notes)
    texts = ColumnTransformer(
        # Each column's name stands above its text as a heading
        [("note", "passthrough", note_columns), ("lab_text", clone(lab_text), labs)],
        verbose_feature_names_out=False,
    )
    texts.set_output(transform="pandas")
    return Pipeline([("texts", texts), ("encoder", note_encoder)]), [*note_columns, *labs]
