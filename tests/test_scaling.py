"""The programs of the page on scaling out, run on a cluster of two processes on this machine."""

import os
import re
import signal
import textwrap
from collections import Counter
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from sklearn_medfuse import (
    LLMNoteEncoder,
    MaskedLabEncoder,
    MEDFuseClassifier,
    make_medfuse_pipeline,
    persistence,
)
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

distributed = pytest.importorskip(
    "distributed", reason='Dask is not installed: pip install "sklearn-medfuse[distributed]"'
)

# Dask itself calls pandas like this
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")

PAGE = Path(__file__).parents[1] / "docs" / "user_guide" / "scaling.rst"
CANARY = "Zebulon Quixote"
SMALL = {"max_epochs": 1, "d_model": 8, "n_heads": 2, "n_estimators": 1, "precision": "float64"}


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        scheduler_port=0,
        worker_dashboard_address=None,
        # Any free port: without an address one is chosen that two runs would share
        dashboard_address="127.0.0.1:0",
        env={"OMP_NUM_THREADS": "1"},
    ) as cluster:
        yield cluster


@pytest.fixture
def run_program(cluster, monkeypatch, tmp_path):
    """Return a function that runs the page's program that has a text, and gives its names."""

    class Client(distributed.Client):
        def __init__(self, **_):
            super().__init__(cluster)
            self.wait_for_workers(2, timeout=120)

    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", PAGE.read_text())

    def run(text):
        (program,) = (each for each in programs if text in each)
        names = {"__name__": "__main__"}
        with monkeypatch.context() as patch:
            patch.setattr(distributed, "Client", Client)
            exec(textwrap.dedent(program), names)
        return names

    return run


@pytest.fixture(scope="module")
def cohort():
    return make_ehr_cohort(60, n_labels=3, random_state=0)


@pytest.fixture(scope="module")
def encoder(tiny_bert, cohort):
    """A fitted encoder that contains its model."""
    encoder = LLMNoteEncoder(tiny_bert, dtype="float32", device="cpu", weights="full")
    return encoder.fit(cohort.X["note"])


@pytest.fixture
def watched(encoder, monkeypatch, tmp_path):
    """What the program loads: an encoder that leaves a file wherever it is unpickled."""

    class Watched(LLMNoteEncoder):
        kill_once = None

        def __setstate__(self, state):
            super().__setstate__(state)
            (tmp_path / f"{os.getpid()}-{uuid4().hex}.loaded").touch()

        def transform(self, X):
            if self.kill_once is not None and not self.kill_once.exists():
                self.kill_once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().transform(X)

    watched = Watched(**encoder.get_params())
    vars(watched).update(vars(encoder))

    def load_model(file):
        (tmp_path / f"{uuid4().hex}.called").touch()
        return watched

    monkeypatch.setattr(persistence, "load_model", load_model)
    return watched


@pytest.fixture
def stays(cohort, tmp_path):
    """Notes in four files, some of them absent, under identifiers that are no positions."""
    frame = cohort.X[["note"]].set_index(cohort.X.index.map("stay {:04}".format))
    frame["note"] = (frame["note"] + f" {CANARY}").where(np.arange(len(frame)) % 7 > 0, None)
    (tmp_path / "stays.parquet").mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(frame)), 4)):
        frame.iloc[rows].to_parquet(tmp_path / "stays.parquet" / f"{number}.parquet")
    return frame


def what_dask_keeps(client):
    """Keys, states, logs and errors of scheduler and workers as text."""
    kept = client.run_on_scheduler(
        lambda dask_scheduler: str(dask_scheduler._to_dict(exclude=("run_spec",)))
    )
    kept += str(client.run(lambda dask_worker: str(dask_worker._to_dict(exclude=("run_spec",)))))
    for logs in (client.get_scheduler_logs(), client.get_worker_logs(nanny=False)):
        kept += str(logs)
    return kept + str(client.get_worker_logs(nanny=True))


def test_vectors_are_those_of_one_machine_and_the_cluster_loads_the_model_once(
    run_program, cluster, encoder, watched, stays, tmp_path
):
    names = run_program("map_partitions")
    found = pd.read_parquet(tmp_path / "vectors.parquet")
    assert found.index.equals(stays.index)
    assert names["notes"].npartitions == 4
    np.testing.assert_array_equal(found, encoder.transform(stays["note"]))
    assert found.columns.tolist() == watched.get_feature_names_out().tolist()
    # Here, for the columns, and once on the cluster
    assert len(list(tmp_path.glob("*.called"))) == 2
    loaded = Counter(file.name.split("-")[0] for file in tmp_path.glob("*.loaded"))
    # This process has the scheduler; a worker gets the function with the model in it, the model of
    # another worker, or both, but not one for each part
    assert len(loaded) <= 3
    assert max(loaded.values()) <= 2
    nothing = names["embed"](stays["note"].iloc[:0], encoder)
    assert nothing.shape == (0, encoder.hidden_size_)
    with distributed.Client(cluster) as client:
        kept = what_dask_keeps(client)
    assert "embed" in kept
    assert CANARY not in kept


def test_an_error_shows_no_note(run_program, cluster, watched, stays):
    watched.max_length = -1
    with pytest.raises(ValueError, match="max_length") as caught:
        run_program("map_partitions")
    assert CANARY not in str(caught.value)
    with distributed.Client(cluster) as client:
        kept = what_dask_keeps(client)
    assert "max_length" in kept
    assert CANARY not in kept


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(run_program, encoder, watched, stays, tmp_path):
    watched.kill_once = tmp_path / "killed"
    run_program("map_partitions")
    assert watched.kill_once.exists()
    found = pd.read_parquet(tmp_path / "vectors.parquet")
    np.testing.assert_array_equal(found, encoder.transform(stays["note"]))
    assert found.index.equals(stays.index)


@pytest.mark.slow
def test_a_search_on_vectors_is_the_search_on_notes(run_program, encoder, cohort):
    labs = partial(MaskedLabEncoder, 8, max_epochs=1)
    names = run_program("search_on_cluster")
    names |= {"MEDFuseClassifier": partial(MEDFuseClassifier, **SMALL), "MaskedLabEncoder": labs}
    vectors = encoder.transform(cohort.X["note"])
    vectors = pd.DataFrame(vectors, cohort.X.index, encoder.get_feature_names_out())
    splitter = MultilabelStratifiedGroupKFold(3)
    found = names["search_on_cluster"](cohort, vectors, splitter)
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        views={},
        lab_encoder=labs(random_state=0),
        note_encoder=FrozenEstimator(encoder),
        random_state=0,
        **SMALL,
    )
    grid = {"medfuse__mi_weight": [0.0, 0.01, 0.1]}
    expected = GridSearchCV(pipe, grid, cv=splitter)
    expected.fit(cohort.X, cohort.y, groups=cohort.groups)
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_allclose(found.cv_results_[name], expected.cv_results_[name], rtol=1e-9)
    np.testing.assert_allclose(
        found.predict_proba(cohort.X.join(vectors)), expected.predict_proba(cohort.X), rtol=1e-9
    )
