"""Every public name, called rightly and wrongly, tells nothing of a patient that it need not tell.

The names are read from the package: a new one that is not in the tables of calls fails here.
"""

import gc
import io
import pickle
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy import sparse
from sklearn.base import BaseEstimator

from sklearn_medfuse._checkpoint import Checkpoint

from . import calls_of_data, calls_of_estimators, calls_of_reports
from .leaks import TEXTS, VALUE, in_bytes, in_folder, in_object, in_text, listening
from .public import public_names

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

CALLS = calls_of_estimators.CALLS | calls_of_reports.CALLS | calls_of_data.CALLS
FIGURES = ("svg", "pdf", "png")
# Name, or its beginning → what it may hold or draw, and why
PROMISED = {
    "datasets.Cohort.from_parquet": (
        {"note", "stay", "patient", "hospital", "level", "value"},
        "the folder is the cohort that was put there",
    ),
    "datasets.Cohort.to_parquet": (
        {"note", "stay", "patient", "hospital", "level", "value"},
        "the folder is the cohort",
    ),
    "datasets.load_": ({"note", "stay", "patient", "value"}, "sources and kept steps are the data"),
    "inspection.NoteAttributions.to_html": ({"note"}, "the note is what is coloured"),
    "plotting.AttributionDisplay": (
        {"value", "level"},
        "the stay's results are written there",
    ),
}


def promised(name: str) -> set[str]:
    return {
        kind for start, (kinds, _) in PROMISED.items() if name.startswith(start) for kind in kinds
    }


# Name → kinds of wrong input that are not tried, and why
NOT_TRIED = {
    "make_medfuse_pipeline": (
        lambda kind: kind not in FRAMES,
        "a plain ColumnTransformer refuses what is no table before ours sees it, and quotes it",
    ),
    "datasets.load_tables": (lambda kind: kind == "a text", "the name of a table is no data"),
}
# So slow that each argument gets every third kind, others the other ones
SLOW = ("plotting.", "persistence.", "LLMNoteEncoder.fit", "MEDFuseClassifier.fit")
# Wrong input to these runs in `make test-all` only: figures pass it to metrics and inspection,
# which are tried by themselves, and the others fit anew for each kind
FITTING = ("plotting.", "LLMNoteEncoder.fit", "MEDFuseClassifier.fit", "NaiveBayesNoteEncoder.fit")
FITTING += ("make_medfuse_pipeline", "persistence.PrivateMemory.cache")
FRAMES = ("fewer rows", "a text in every column", "objects in every column", "a column less")


class Secret:
    """What stands in a cell by mistake, and tells all in its repr."""

    def __repr__(self):
        return f"Secret({TEXTS['note']}, {VALUE})"


def hostile(good):
    """Kinds of wrong input by name, each made of canaries."""
    n = len(good) if hasattr(good, "__len__") else 5
    text = TEXTS["note"]
    kinds = {
        "a text": text,
        "texts": [text] * n,
        "a matrix of texts": np.full((n, 3), text, dtype=object),
        "an array of texts": np.full((n, 2), text),
        "objects": np.array([Secret() for _ in range(n)], dtype=object),
        "a matrix of objects": np.array([[Secret(), Secret()]] * n, dtype=object),
        "dicts": [{text: VALUE}] * n,
        "bytes": np.full((n, 2), text.encode(), dtype=object),
        "a number": VALUE,
        "a cube": np.full((n, 2, 2), VALUE),
        "a matrix": np.full((n, 3), VALUE),
        "numbers": np.full(n, VALUE),
        "infinite": np.array([[VALUE, np.inf]] * n),
        "complex": np.full((n, 2), VALUE + 1j),
        "ragged": [[text]] + [[VALUE, text]] * (n - 1),
        "identifiers": pd.Series([f"{TEXTS['stay']}-{i}" for i in range(n)], dtype="str"),
        "categories": pd.Series([text] * n, dtype="category"),
        "sparse": sparse.csr_array(np.full((n, 3), VALUE)),
        "none": None,
        "a set": {text, VALUE},
        "a dict": {text: [VALUE] * n},
        "nothing": [],
    }
    if isinstance(good, pd.DataFrame | pd.Series):
        kinds["fewer rows"] = good.iloc[: n // 2]
        mixed = good.astype(object)
        mixed.iloc[::3] = text
        kinds["a text in every column"] = mixed
        kinds["objects in every column"] = good.astype(object).map(lambda cell: Secret())
        kinds["the same stay twice"] = pd.concat([good, good.iloc[:1]])
    if isinstance(good, pd.DataFrame):
        kinds["a column less"] = good.iloc[:, 1:]
        kinds["columns in disorder"] = good.iloc[:, ::-1]
    return kinds


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def kept_checkpoints(monkeypatch):
    """Checkpoints stay, as after a crash."""
    monkeypatch.setattr(Checkpoint, "remove", lambda self: None)


def show(result, heard_texts: list[str]) -> None:
    """What a notebook or a log would show of our own objects."""
    for each in (result, getattr(result, "__self__", None)):
        if type(each).__module__.startswith(("sklearn_medfuse", "sklearn.")):
            heard_texts.append(repr(each) + str(each))
            for form in ("_repr_html_", "_repr_mimebundle_"):
                if hasattr(each, form):
                    heard_texts.append(str(getattr(each, form)()))


def saved_forms(estimator) -> dict[str, bytes]:
    joblib_file = io.BytesIO()
    joblib.dump(estimator, joblib_file)
    return {
        "pickle": pickle.dumps(estimator),
        "joblib": joblib_file.getvalue(),
        "skops": skops.io.dumps(estimator),
    }


def figure_files(folder, suffixes) -> None:
    """Save every open figure, text as text."""
    with plt.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "pdf.compression": 0}):
        for number in plt.get_fignums():
            for suffix in suffixes:
                plt.figure(number).savefig(folder / f"figure{number}.{suffix}", dpi=40)


def test_every_public_name_is_called():
    """Whoever adds a name says here how it is called with patients' data."""
    names = public_names()
    # A class is called by its methods; options hold no data
    classes = {name for name in names if any(each.startswith(f"{name}.") for each in names)}
    classes.add("datasets.CohortOptions")
    # The pipeline is scikit-learn's but for fit, which `make_medfuse_pipeline` calls
    elsewhere = "MEDFusePipeline."
    assert {name for name in names - classes if not name.startswith(elsewhere)} == set(CALLS)


def test_every_promise_is_of_a_name_that_there_is():
    assert all(any(name.startswith(start) for name in CALLS) for start in PROMISED)
    assert all(reason for _, reason in PROMISED.values())


@pytest.mark.usefixtures("kept_checkpoints")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CALLS))
def test_nothing_is_told_where_all_goes_well(name, world, fitted, tmp_path):
    call = CALLS[name]
    with listening() as heard:
        target = call.target(world, fitted, tmp_path)
        result = target(**call.good(world, fitted, tmp_path))
    if heard.error is not None:
        raise heard.error
    shown: list[str] = []
    show(result, shown)
    show(target, shown)
    found = heard.canaries()
    found |= {kind: "repr" for text in shown for kind in in_text(text)}
    held = [each for each in (result, getattr(target, "__self__", None)) if _is_ours(each)]
    kept = {}
    for each in held:
        kept |= in_object(each, ignored=(world, world.cohort, fitted))
        if isinstance(each, BaseEstimator):
            for form, raw in saved_forms(each).items():
                kept |= dict.fromkeys(in_bytes(raw), form)
    # One way to each display is enough for what is the same in all
    figure_files(tmp_path, FIGURES if name.endswith(".plot") else FIGURES[:1])
    kept |= in_folder(tmp_path)
    kept = {kind: place for kind, place in kept.items() if kind not in promised(name)}
    assert found | kept == {}


def _is_ours(each) -> bool:
    """Whether it is an object that the package keeps state in, rather than an answer."""
    kind = type(each)
    return (
        kind.__module__.startswith("sklearn_medfuse")
        and kind.__name__
        not in (
            "Cohort",
            "function",
        )
    ) or isinstance(each, BaseEstimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith(FITTING) else [])
        for name, call in sorted(CALLS.items())
        if call.data
    ],
)
def test_nothing_is_told_where_it_goes_wrong(name, world, fitted, tmp_path):
    call = CALLS[name]
    told = {}
    good = call.good(world, fitted, tmp_path)
    for place, argument in enumerate(call.data, start=len(name)):
        kinds = list(hostile(good[argument]).items())
        for kind, wrong in kinds[place % 3 :: 3] if name.startswith(SLOW) else kinds:
            if name in NOT_TRIED and NOT_TRIED[name][0](kind):
                continue
            with listening() as heard:
                call.target(world, fitted, tmp_path)(**{**good, argument: wrong})
            if heard.canaries():
                told[argument, kind] = heard.told()
        plt.close("all")
    assert told == {}


def test_the_package_keeps_nothing_between_calls(world, fitted):
    """What modules hold, caches of functions included, after all of the above."""
    gc.collect()
    modules = [each for name, each in sys.modules.items() if name.startswith("sklearn_medfuse")]
    found = {}
    for module in modules:
        # Not what loaded it, which here is pytest
        held = {name: each for name, each in vars(module).items() if not name.startswith("__")}
        found |= in_object(held, ignored=(world, fitted))
    assert found == {}


@pytest.mark.filterwarnings("ignore")
def test_what_describes_a_cohort_tells_no_single_stay(world):
    cohort = world.cohort
    texts = [repr(cohort), str(cohort), cohort._repr_html_(), str(cohort.report())]
    pytest.importorskip("tableone")
    table = cohort.describe("ward")
    texts += [table.to_string(), table.to_html()]
    assert [in_text(text) for text in texts] == [set()] * len(texts)
    assert "others" in texts[-1]
    assert "rare lab" not in texts[-1]
