"""Files of fitted models that run no code when they are read."""

import importlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import _split
from sklearn.pipeline import Pipeline

from .._private_files import write_private
from ..metrics._scorers import _SCORES

_SCHEMA = "schema.json"
# Limit on the schema, which grows with the names of labs and the words of a vocabulary
_SCHEMA_BYTES = 2**26
# Limit on what is read, as a multiple of the file: skops may name an array more than once
_MOST_READS = 4
_REMEDY = "Get it again from where save_model or skops has written it."
_OURS = ("sklearn_medfuse", "sklearn_medfuse.model_selection")
_TREE = f"{TreePredictor.__module__}.TreePredictor"
# Types beyond skops's own list. skops rebuilds each from its state, which holds no code: functions
# and methods in it are types by themselves. scipy's distributions are missing because they run
# their state as code, and caches because they unpickle what lies in a folder that the file names
_HARMLESS = {
    _TREE,  # After `_unsound_trees`
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "sklearn_medfuse.metrics._scorers.MultilabelScorer",
}


def save_model(model: Any, file: str | Path) -> None:
    """Write a fitted estimator or pipeline to a skops file that only its owner can read.

    The file holds weights as safetensors, arrays in numpy's format and the rest as JSON. Each part
    has a checksum. The cache of a pipeline (`memory`) is not written.

    Parameters
    ----------
    model : estimator
        An estimator of this package, or one of scikit-learn that contains some: a pipeline, a
        search, a calibrated, stacked or voting classifier.
    file : str or path
        Where to write; the name usually ends in ``.skops``. An existing file is replaced, either
        completely or not at all.

    Raises
    ------
    ImportError
        If skops is not installed.

    See Also
    --------
    load_model : Reads the file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_medfuse import MaskedLabEncoder
    >>> from sklearn_medfuse.persistence import load_model, save_model
    >>> encoder = MaskedLabEncoder(4, max_epochs=1).fit([[1.0, 2.0]] * 8)
    >>> with TemporaryDirectory() as folder:
    ...     save_model(encoder, f"{folder}/labs.skops")
    ...     load_model(f"{folder}/labs.skops").transform([[1.0, 2.0]]).shape
    (1, 4)
    """
    write_private(Path(file), _dump(model))


def trusted_types(estimator: Any) -> list[str]:
    """List the types of an estimator to pass to skops, or to MLflow, as trusted.

    skops itself trusts the public estimators of scikit-learn. The list adds what `load_model`
    trusts: types of this package, and splitters, scorers, calibrators and trees of scikit-learn.

    Parameters
    ----------
    estimator : estimator
        The estimator, fitted or not.

    Returns
    -------
    list of str
        Full names, sorted. Types of other packages are not listed: add those that you know.

    Raises
    ------
    ImportError
        If skops is not installed.

    See Also
    --------
    load_model : Needs no list for these types.

    Notes
    -----
    skops compares names only. `load_model` also checks the trees of histogram gradient boosting,
    whose forged indices could crash the process.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_medfuse import NoteCleaner
    >>> from sklearn_medfuse.persistence import trusted_types
    >>> trusted_types(make_pipeline(NoteCleaner()))
    ['sklearn_medfuse.notes._note_cleaner.NoteCleaner']

    With MLflow, whose default format is skops:

    .. code-block:: python

        mlflow.sklearn.log_model(pipe, skops_trusted_types=trusted_types(pipe))
    """
    found = _import_skops().get_untrusted_types(data=_dump(estimator))
    return sorted(filter(_is_harmless, found))


def load_model(
    file: str | Path, *, trusted: Sequence[str] = (), trust_remote_code: bool = False
) -> Any:
    """Read an estimator from a skops file without running code from the file.

    Estimators, splitters and scorers of this package and of scikit-learn are built. The file is
    refused if it contains any other type or function, parts that unpack to many times the size of
    the file, damaged parts, or a note encoder that would run code shipped with its language model.

    Parameters
    ----------
    file : str or path
        A file written by `save_model` or ``skops.io.dump``.
    trusted : sequence of str, default=()
        Further types to build, such as ``"my_package.MyStep"``. Building a type can run its code,
        so name only types that you know.
    trust_remote_code : bool, default=False
        Whether an `LLMNoteEncoder` may be set to run code shipped with its model.

    Returns
    -------
    estimator
        The estimator as it was saved; pipelines have no cache.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is refused or cannot be read; the message names the file and the reason.
    ImportError
        If skops is not installed.

    See Also
    --------
    save_model : Writes the file.

    Notes
    -----
    ``joblib.load`` and ``pickle.load`` run any code that a file contains. Nothing can make them
    safe.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_medfuse import NoteCleaner
    >>> from sklearn_medfuse.persistence import load_model, save_model
    >>> with TemporaryDirectory() as folder:
    ...     save_model(NoteCleaner(), f"{folder}/cleaner.skops")
    ...     load_model(f"{folder}/cleaner.skops")
    NoteCleaner()
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r}; pass one that save_model wrote.")
    skops_io = _import_skops()
    model = None
    try:
        problem = _check_parts(file)
        if problem is None:
            found = skops_io.get_untrusted_types(file=file)
            allowed = [name for name in found if name in trusted or _is_harmless(name)]
            others = sorted(set(found) - set(allowed))
            if others:
                names = ", ".join(name[:80] for name in others[:5])
                problem = (
                    f"holds {len(others)} types that are not known to be harmless: {names}. If you "
                    "know all of them, pass their names as trusted=[...]; otherwise do not load "
                    "the file."
                )
        if problem is None:
            model = skops_io.load(file, trusted=allowed)
            problem = _check_model(model, _TREE in trusted, trust_remote_code)
    except Warning:
        # About versions, if the user has turned warnings into errors
        raise
    except Exception as error:
        # Raised outside of the handler, so that the content of the file is not quoted
        problem = f"is damaged ({type(error).__name__}). {_REMEDY}"
    if problem is not None:
        raise ValueError(f"{str(file)!r} {problem}")
    _forget_caches(model)
    return model


def _import_skops() -> ModuleType:
    try:
        import skops.io
    except ImportError:
        raise ImportError(
            'save_model and load_model need skops: pip install "sklearn-medfuse[skops]".'
        ) from None
    return skops.io


def _check_parts(file: Path) -> str | None:
    """Return why the file is refused before any of it is built, or None."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        unpacked = sum(part.file_size for part in parts)
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or (
            unpacked > file.stat().st_size
        ):
            return (
                "is compressed, so it may unpack to any size. Write it with save_model, or with "
                "skops without compression."
            )
        if archive.getinfo(_SCHEMA).file_size > _SCHEMA_BYTES:
            return f"has a description of over {_SCHEMA_BYTES:,} bytes. {_REMEDY}"
        sizes = {part.filename: part.file_size for part in parts}
        named = _reads_in(json.loads(archive.read(_SCHEMA)))
        if sum(sizes[name] for name in named) > _MOST_READS * file.stat().st_size:
            return f"names its parts many times over. {_REMEDY}"
    return None


def _reads_in(schema: Any) -> Iterator[str]:
    """Yield the name of a part each time that skops reads it.

    skops reads a part once for all places in which one object, known by its id, stands.
    """
    seen, left = set(), [schema]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            place = each.get("file"), each.get("__id__")
            if isinstance(place[0], str) and (not place[1] or place not in seen):
                seen.add(place)
                yield place[0]
            each = list(each.values())
        left += each if isinstance(each, list) else []


def _is_harmless(name: str) -> bool:
    """Return whether a type or function of ours or of scikit-learn runs no code from a file."""
    place, _, short = name.rpartition(".")
    if place == _split.__name__:
        splitter = vars(_split).get(short)
        return isinstance(splitter, type) and splitter.__module__ == place
    if name in _HARMLESS:
        return True
    functions = [get_scorer(scorer)._score_func for scorer in get_scorer_names()]
    functions += [function for function, *_ in _SCORES.values()]
    for package in map(importlib.import_module, _OURS):
        public = getattr(package, short) if short in package.__all__ else None
        functions += [public] if isinstance(public, type) else []
    return name in {f"{each.__module__}.{each.__qualname__}" for each in functions}


def _check_model(model: Any, trees_trusted: bool, code_trusted: bool) -> str | None:
    """Return why a model should not be used, or None."""
    parts = list(_objects_in(model))
    if not trees_trusted and _unsound_trees(parts):
        return (
            "holds trees of histogram gradient boosting that cannot be checked, such as those of "
            f"categorical columns, or are damaged. If you know the file, pass trusted=[{_TREE!r}]."
        )
    if not code_trusted and any(
        getattr(p, "trust_remote_code", None) not in (False, None) for p in parts
    ):
        return (
            "holds a note encoder with trust_remote_code=True, which runs code shipped with its "
            "language model. Read that code, then call load_model with trust_remote_code=True."
        )
    return None


def _unsound_trees(parts: list[Any]) -> bool:
    """Return whether an index in a tree points outside of it or of the columns.

    scikit-learn follows the indices without a check, so forged ones crash the process.
    """
    trees = {id(part) for part in parts if isinstance(part, TreePredictor)}
    for part in parts:
        if isinstance(part, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
            fitted = vars(part)
            # Neither may be there: prediction would not check the number of columns
            unchecked = fitted.get("_preprocessor") is not None or "_in_fit" in fitted
            for tree in _objects_in(fitted.get("_predictors", [])):
                if unchecked or not _is_sound(tree.nodes, index(part.n_features_in_)):
                    return True
                trees.discard(id(tree))
    return bool(trees)


def _is_sound(nodes: np.ndarray, n_features: int) -> bool:
    if nodes.ndim != 1 or not len(nodes):
        return False
    place = np.flatnonzero(nodes["is_leaf"] == 0)
    inner = nodes[place]
    # A child stands behind its parent, so that every way ends
    child = np.stack([inner["left"], inner["right"]]).astype(np.int64)
    feature = inner["feature_idx"]
    in_tree = (child > place) & (child < len(nodes))
    return bool(
        in_tree.all()
        and ((feature >= 0) & (feature < n_features)).all()
        and not inner["is_categorical"].any()
    )


def _dump(model: Any) -> bytes:
    """Write a model without what serves only the process: caches and the groups of rows."""
    if any(map(_serves_the_process, _objects_in(model))):
        model = deepcopy(model)
        _forget_caches(model)
    return _import_skops().dumps(model)


def _serves_the_process(part: Any) -> bool:
    return isinstance(part, Pipeline) and (
        part.memory is not None or getattr(part, "_known_groups", None) is not None
    )


def _forget_caches(model: Any) -> None:
    for part in filter(_serves_the_process, _objects_in(model)):
        part.memory = None
        vars(part).pop("_known_groups", None)


def _objects_in(model: Any) -> Iterator[Any]:
    """Yield an estimator and everything it consists of."""
    seen: set[int] = set()
    left = [model]
    while left:
        part = left.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | type | ModuleType):
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list | tuple | set):
            left += part
        elif isinstance(part, np.ndarray):
            left += part.ravel().tolist() if part.dtype == object else []
        else:
            yield part
            left += vars(part).values() if hasattr(part, "__dict__") else []
