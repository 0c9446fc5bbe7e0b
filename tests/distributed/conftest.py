"""One cluster for the whole session: two workers, processes of their own, on this machine alone."""

import os
import signal

import pytest

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import make_ehr_cohort

distributed = pytest.importorskip(
    "distributed", reason='Dask is not installed: pip install "sklearn-medfuse[distributed]"'
)


@pytest.fixture(scope="session")
def session_client():
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            scheduler_port=0,
            worker_dashboard_address=None,
            # Any free port: without an address one is chosen that two runs would share
            dashboard_address="127.0.0.1:0",
            local_directory=None,
            env={"OMP_NUM_THREADS": "1"},
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def client(session_client):
    """The client, once both workers are there: a test before may have killed one."""
    session_client.wait_for_workers(2, timeout=120)
    return session_client


@pytest.fixture(scope="session")
def cohort():
    """Sixty made stays."""
    return make_ehr_cohort(60, n_labels=3, random_state=0)


@pytest.fixture(scope="session")
def encoder(tiny_bert, cohort):
    """A fitted encoder that contains its model."""
    encoder = LLMNoteEncoder(
        tiny_bert, dtype="float32", device="cpu", weights="full", batch_tokens=128
    )
    return encoder.fit(cohort.X["note"])


@pytest.fixture(scope="session")
def make_pipeline(cohort):
    """Return a function that makes a small pipeline with a note encoder."""

    def make(note_encoder):
        return make_medfuse_pipeline(
            cohort.lab_columns,
            cohort.note_column,
            views={},
            lab_encoder=MaskedLabEncoder(8, max_epochs=1, random_state=0),
            note_encoder=note_encoder,
            max_epochs=1,
            d_model=8,
            n_heads=2,
            n_estimators=1,
            precision="float64",
            random_state=0,
        )

    return make


@pytest.fixture
def kill_a_worker(client):
    """Return a function that kills one worker and gives its address."""

    def kill():
        address, pid = min(client.run(os.getpid).items())
        os.kill(pid, signal.SIGKILL)
        return address

    return kill
