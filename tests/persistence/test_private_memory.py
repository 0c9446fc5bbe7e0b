"""PrivateMemory: encoders are fitted once, and nothing of a patient lies in its folder."""

import io
import os
import pickle
import re
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_medfuse import MaskedLabEncoder, make_medfuse_pipeline
from sklearn_medfuse.metrics import get_scorer
from sklearn_medfuse.persistence import PrivateMemory

NAME = "Zebulon Quixote"
STAY = "stay-4711-0815"
VALUE = 31337.421875
CANARIES = [
    NAME.encode(),
    NAME.encode("utf-16-le"),
    STAY.encode(),
    STAY.encode("utf-16-le"),
    np.float64(VALUE).tobytes(),
    np.float32(VALUE).tobytes(),
    str(VALUE).encode(),
]
LABS = ["sodium", "potassium"]


class CountingEncoder(TransformerMixin, BaseEstimator):
    """Columns around their mean; every fit leaves a file in a folder."""

    def __init__(self, folder, scale=1.0):
        self.folder = folder
        self.scale = scale

    def fit(self, X, y=None):
        descriptor, _ = tempfile.mkstemp(dir=self.folder)
        os.close(descriptor)
        self.mean_ = np.asarray(X).mean(axis=0)
        return self

    def transform(self, X):
        return self.scale * (X - self.mean_)


@pytest.fixture
def counted(tmp_path):
    """A folder in which each fit leaves a file."""
    (tmp_path / "fits").mkdir()
    return tmp_path / "fits"


@pytest.fixture
def memory(tmp_path):
    return PrivateMemory(tmp_path / "cache")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, (X[:, 0] + rng.normal(size=60) > 0).astype(int)


@pytest.fixture
def stays():
    """Thirty stays; one of them has a canary for a name, an identifier and a lab value."""
    rng = np.random.default_rng(0)
    index = [f"stay-{i}" for i in range(30)]
    index[0] = STAY
    X = pd.DataFrame(rng.normal(size=(30, 2)), columns=LABS, index=pd.Index(index, name="stay"))
    X.iloc[0, 0] = VALUE
    X["note"] = [f"Patient {i}, history of COPD." for i in range(30)]
    X.iloc[0, 2] = f"Patient {NAME}."
    y = pd.DataFrame(rng.integers(2, size=(30, 2)), columns=["CHF", "COPD"], index=X.index)
    return X, y


@pytest.fixture
def make_medfuse(note_encoder):
    def make(memory):
        labs = MaskedLabEncoder(
            n_components=4, d_model=8, n_heads=2, n_layers=1, max_epochs=1, device="cpu"
        )
        return make_medfuse_pipeline(
            LABS,
            "note",
            views={},
            lab_encoder=labs,
            note_encoder=note_encoder(),
            memory=memory,
            random_state=0,
            d_model=8,
            n_heads=2,
            n_estimators=1,
            max_epochs=1,
            early_stopping=False,
            device="cpu",
        )

    return make


def make_pipe(memory, counted, **params):
    steps = [("encode", CountingEncoder(str(counted))), ("classify", LogisticRegression())]
    return Pipeline(steps, memory=memory).set_params(**params)


def n_fits(counted):
    return len(list(counted.iterdir()))


def results_in(memory):
    return sorted(memory.location.glob("*/output.pkl"))


def bytes_under(folder):
    """Every byte of every file, and every name."""
    paths = sorted(Path(folder).rglob("*"))
    names = "\n".join(map(str, paths)).encode()
    return names + b"".join(path.read_bytes() for path in paths if path.is_file())


def test_a_plain_memory_does_write_the_note(stays, tmp_path, make_medfuse):
    """If this fails, joblib has changed, and PrivateMemory may have become needless."""
    make_medfuse(joblib.Memory(tmp_path / "plain", verbose=0)).fit(*stays)
    written = bytes_under(tmp_path / "plain")
    assert NAME.encode() in written
    assert STAY.encode() in written


def test_nothing_of_a_patient_is_written_or_shown(stays, memory, make_medfuse, capfd, caplog):
    X, y = stays
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        for _ in range(2):
            pipe = make_medfuse(memory).fit(X, y)
    assert len(results_in(memory)) == 1
    captured = capfd.readouterr()
    shown = out.getvalue() + err.getvalue() + captured.out + captured.err + caplog.text
    shown += repr(memory) + repr(pipe) + pipe._repr_html_()
    everything = bytes_under(memory.location) + shown.encode() + pickle.dumps(memory)
    for canary in CANARIES:
        assert canary not in everything


def test_only_known_files_are_written(memory, counted, data):
    make_pipe(memory, counted).fit(*data)
    files = [path for path in memory.location.rglob("*") if path.is_file()]
    names = {str(path.relative_to(memory.location)) for path in files}
    assert {re.sub(r"^[0-9a-f]{32}/", "<name>/", name) for name in names} == {
        ".gitignore",
        "key",
        "<name>/output.pkl",
    }


def test_the_key_decides_the_names(tmp_path, counted, data):
    """Equal input lies under other names with another key, so none can be guessed without it."""
    memories = [PrivateMemory(tmp_path / name) for name in ("one", "other")]
    shared = PrivateMemory(tmp_path / "third", key_file=memories[0].location / "key")
    for memory in (*memories, shared):
        make_pipe(memory, counted).fit(*data)
    one, other, third = ([p.parent.name for p in results_in(m)] for m in (*memories, shared))
    assert one != other
    assert one == third
    assert not (shared.location / "key").exists()


def test_the_key_is_in_no_pickle_and_survives_clear(memory, counted, data):
    key = (memory.location / "key").read_bytes()
    assert len(key) == 32
    assert key not in pickle.dumps(memory)
    make_pipe(memory, counted).fit(*data)
    memory.clear(warn=False)
    assert results_in(memory) == []
    make_pipe(memory, counted).fit(*data)
    assert (memory.location / "key").read_bytes() == key
    assert n_fits(counted) == 2


def test_a_damaged_key_is_refused(memory):
    (memory.location / "key").write_bytes(b"short")
    with pytest.raises(ValueError, match="holds 5 bytes instead of 32"):
        PrivateMemory(memory.location.parent)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_owner_alone_whatever_the_umask(tmp_path, counted, data, umask):
    before = os.umask(umask)
    try:
        memory = PrivateMemory(tmp_path / "cache")
        make_pipe(memory, counted).fit(*data)
    finally:
        os.umask(before)
    paths = [memory.location, *memory.location.rglob("*")]
    assert len(paths) == 5
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_an_open_folder_is_closed_but_not_the_users_own(tmp_path):
    (tmp_path / "sklearn_medfuse").mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    PrivateMemory(tmp_path)
    assert stat.S_IMODE((tmp_path / "sklearn_medfuse").stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_encoders_are_fitted_once_per_fold_whatever_the_grid(memory, counted, data):
    grid = {"classify__C": [0.01, 0.1, 1.0, 10.0]}
    GridSearchCV(make_pipe(memory, counted), grid, cv=3, refit=False).fit(*data)
    assert n_fits(counted) == 3
    search = GridSearchCV(make_pipe(memory, counted), grid, cv=3).fit(*data)
    assert n_fits(counted) == 4
    plain = GridSearchCV(make_pipe(None, counted), grid, cv=3).fit(*data)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], plain.cv_results_[name])


def test_what_decides_the_encoding_decides_the_result(memory, counted, data):
    X, y = data
    for params in ({}, {"encode__scale": 2.0}, {"classify__C": 0.1}):
        make_pipe(memory, counted, **params).fit(X, y)
    assert n_fits(counted) == 2
    make_pipe(memory, counted).fit(X + 1, y)
    make_pipe(memory, counted).fit(X, 1 - y)
    assert n_fits(counted) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("own_workers")
def test_workers_share_the_cache(memory, data):
    # A class of this file cannot be imported by a worker, so results are counted and not fits
    pipe = Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression())])
    grid = {"classify__C": [0.01, 0.1, 1.0, 10.0]}
    plain = GridSearchCV(pipe, grid, cv=3).fit(*data)
    pipe = clone(pipe).set_params(memory=memory)
    for n_jobs in (2, 1):
        search = GridSearchCV(pipe, grid, cv=3, n_jobs=n_jobs).fit(*data)
        np.testing.assert_array_equal(
            search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
        )
        assert len(results_in(memory)) == 4
    assert not list(memory.location.glob("*/.writing-*"))


def test_writers_at_the_same_time_do_not_tear_a_result(memory):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, 20)))
    cached = memory.cache(centre)

    def write_and_read(i):
        for file in results_in(memory)[: i % 2]:
            file.unlink(missing_ok=True)
        return cached(X)

    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(write_and_read, range(40)):
            pd.testing.assert_frame_equal(result, centre(X))


def test_another_process_reads_the_results(stays, memory, tmp_path):
    X, y = stays
    columns = [
        ("labs", StandardScaler(), LABS),
        ("notes", HashingVectorizer(n_features=16), "note"),
    ]
    steps = [("encode", ColumnTransformer(columns)), ("classify", LogisticRegression())]
    pipe = Pipeline(steps, memory=memory)
    joblib.dump((pipe, X, y["CHF"]), tmp_path / "pipe.joblib")
    # Both processes read the same file: with pandas 2 a table that was read hashes differently
    pipe, X, chf = joblib.load(tmp_path / "pipe.joblib")
    expected = pipe.fit(X, chf).predict_proba(X)
    program = (
        "import sys, joblib, numpy as np\n"
        "pipe, X, y = joblib.load(sys.argv[1])\n"
        "np.save(sys.argv[2], pipe.fit(X, y).predict_proba(X))"
    )
    result = tmp_path / "result.npy"
    arguments = [str(tmp_path / "pipe.joblib"), str(result)]
    (file,) = results_in(memory)
    written = file.stat().st_mtime_ns
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    # The classifier is fitted there, perhaps with another number of threads
    np.testing.assert_allclose(np.load(result), expected, atol=1e-6)
    assert results_in(memory) == [file]
    assert file.stat().st_mtime_ns == written


def test_cached_and_computed_are_the_same(stays, memory, make_medfuse):
    X, y = stays
    plain, first, cached = (
        make_medfuse(cache).fit(X, y).predict_proba(X) for cache in (None, memory, memory)
    )
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(cached, plain)


def test_a_search_over_the_fusion_reads_one_encoding_per_fold(stays, memory, make_medfuse):
    X, y = stays
    search = GridSearchCV(
        make_medfuse(memory),
        {"medfuse__mi_weight": [0.0, 0.1, 1.0]},
        cv=2,
        scoring=get_scorer("neg_multilabel_log_loss"),
        error_score="raise",
    )
    search.fit(X, y)
    assert len(results_in(memory)) == 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    everything = bytes_under(memory.location)
    for canary in CANARIES:
        assert canary not in everything


def test_clones_share_the_folder(memory, counted, data):
    pipe = make_pipe(memory, counted)
    for fitted in (pipe, clone(pipe), pickle.loads(pickle.dumps(pipe))):
        fitted.fit(*data)
        assert fitted.memory.location == memory.location
    assert n_fits(counted) == 1


@pytest.mark.parametrize("kept", [0, 10, 100, -1])
def test_a_torn_result_is_computed_again(memory, counted, data, kept):
    expected = make_pipe(memory, counted).fit(*data).predict_proba(data[0])
    (file,) = results_in(memory)
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    with pytest.warns(UserWarning, match=r"cannot be read \(it is damaged"):
        found = make_pipe(memory, counted).fit(*data).predict_proba(data[0])
    np.testing.assert_array_equal(found, expected)
    make_pipe(memory, counted).fit(*data)
    assert n_fits(counted) == 2


def test_a_result_of_somebody_else_is_not_unpickled(memory, counted, data, tmp_path):
    make_pipe(memory, counted).fit(*data)
    (file,) = results_in(memory)

    class Planted:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was_run",)

    file.write_bytes(bytes(32) + pickle.dumps(Planted()))
    with pytest.warns(UserWarning, match="cannot be read"):
        make_pipe(memory, counted).fit(*data)
    assert not (tmp_path / "was_run").exists()


def test_no_torn_file_is_left_when_the_disk_is_full(memory, counted, data, monkeypatch):
    def full(*_):
        raise OSError(28, NAME)

    monkeypatch.setattr("sklearn_medfuse._private_files.os.replace", full)
    with pytest.warns(UserWarning, match=r"cannot be cached \(OSError\)") as caught:
        make_pipe(memory, counted).fit(*data)
    assert NAME not in str(caught[0].message)
    assert not [path for path in memory.location.glob("*/*") if path.is_file()]


def test_what_cannot_be_hashed_is_told_without_the_data(stays, memory):
    X, y = stays
    keep = FunctionTransformer(lambda X: X[LABS].fillna(0.0))
    pipe = Pipeline([("keep", keep), ("classify", LogisticRegression())], memory=memory)
    with pytest.raises(pickle.PicklingError, match="cannot be hashed") as raised:
        pipe.fit(X, y["CHF"])
    error = raised.value
    assert error.__context__ is None
    assert error.__cause__ is None
    for canary in (NAME, STAY, str(VALUE)):
        assert canary not in str(error)


def centre(X, scale=1.0, label=""):
    """Scale a table around its mean."""
    return scale * (X - X.mean())


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([STAY, "b", "c"], name="stay"),
        pd.MultiIndex.from_arrays([[STAY, "b", "b"], [1, 1, 2]], names=["patient", "stay"]),
        pd.RangeIndex(3),
        pd.date_range("2026-01-01", periods=3),
    ],
    ids=["names", "two levels", "range", "dates"],
)
def test_a_row_index_comes_back_from_the_input(memory, index):
    X = pd.DataFrame({"sodium": [1.0, 2.0, 4.0]}, index=index)
    cached = memory.cache(centre)
    first, again = cached(X), cached(X)
    pd.testing.assert_frame_equal(again, first)
    assert STAY.encode() not in bytes_under(memory.location)
    moved = X.set_axis(range(3, 6))
    pd.testing.assert_frame_equal(cached(moved), centre(moved))
    assert len(results_in(memory)) == 2


def upper(X):
    """Give the notes, as a step that cleans them would."""
    return X.map(str.upper)


AS_RESULT = {
    "series": lambda X: X["note"],
    "frame": lambda X: X,
    "array": lambda X: X["note"].to_numpy(dtype=object),
    "text array": lambda X: X["note"].to_numpy(dtype="U"),
    "list": lambda X: X["note"].tolist(),
    "categories": lambda X: X["note"].astype("category"),
    "dates": lambda X: pd.Series(pd.date_range("2026-01-01", periods=len(X))),
}


def give(value):
    return value, None


@pytest.mark.parametrize("form", AS_RESULT)
def test_text_is_computed_each_time_and_not_kept(memory, stays, form):
    value = AS_RESULT[form](stays[0])
    result, _ = memory.cache(give)(value)
    assert result is value
    assert results_in(memory) == []


def test_a_step_that_gives_text_is_not_kept_and_the_next_one_is(memory, stays, note_encoder):
    X, y = stays
    steps = [
        ("clean", FunctionTransformer(upper)),
        ("embed", note_encoder()),
        ("classify", LogisticRegression()),
    ]
    for _ in range(2):
        Pipeline(steps, memory=memory).fit(X[["note"]], y["CHF"])
    assert len(results_in(memory)) == 1
    everything = bytes_under(memory.location)
    for canary in (*CANARIES, NAME.upper().encode()):
        assert canary not in everything


@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame, csr_array, lambda X: X > 0])
def test_numbers_of_any_form_are_kept(memory, form):
    value = form(np.eye(3))
    first, again = (memory.cache(give)(value)[0] for _ in range(2))
    assert first is value
    assert again is not value
    assert (again != value).sum().sum() == 0
    assert len(results_in(memory)) == 1


def test_ignored_arguments_defaults_and_keywords(memory):
    X = pd.DataFrame({"sodium": [1.0, 2.0]})
    cached = memory.cache(ignore=["label"])(centre)
    for result in (cached(X), cached(X, 1.0), cached(X=X, scale=1.0, label="other")):
        pd.testing.assert_frame_equal(result, centre(X))
    assert len(results_in(memory)) == 1
    assert cached.__name__ == "centre"


def test_results_of_another_version_are_not_read(memory, counted, data, monkeypatch):
    make_pipe(memory, counted).fit(*data)
    monkeypatch.setattr("sklearn_medfuse.persistence._private_memory.__version__", "99.0")
    make_pipe(memory, counted).fit(*data)
    assert n_fits(counted) == 2


def test_a_function_without_source_is_refused(memory):
    with pytest.raises(ValueError, match="no source that can be read"):
        memory.cache(len)


def test_joblibs_housekeeping_works(memory, counted, data):
    X, y = data
    for shift in range(3):
        make_pipe(memory, counted).fit(X + shift, y)
    memory.reduce_size(items_limit=1)
    assert len(results_in(memory)) == 1
    assert memory.eval(centre, pd.DataFrame({"a": [1.0]})).size == 1
