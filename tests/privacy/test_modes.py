"""Folders and files that the package makes for private things are their owner's, at any umask."""

import os
import stat

import pytest
from sklearn.base import clone

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder
from sklearn_medfuse._checkpoint import Checkpoint
from sklearn_medfuse.persistence import PrivateMemory

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")


def vectors(w, f, folder):
    LLMNoteEncoder(w.model, device="cpu", cache=folder).fit_transform(w.notes_X)


def epochs_of_labs(w, f, folder):
    MaskedLabEncoder(4, d_model=8, n_heads=2, max_epochs=1, checkpoint_dir=folder).fit(
        w.numeric_labs
    )


def epochs_of_notes(w, f, folder):
    clone(w.notes).set_params(
        fine_tuning="lora", max_epochs=1, max_chunks=1, checkpoint_dir=folder, verbose=0
    ).fit(w.notes_X[:12], w.y[:12])


def cohort(w, f, folder):
    w.cohort.to_parquet(folder)
    # Over the one that is there
    w.cohort.to_parquet(folder)


def memory(w, f, folder):
    folder.mkdir(mode=0o700)
    clone(w.pipe).set_params(memory=PrivateMemory(folder)).fit(w.X, w.y)


WRITERS = [vectors, epochs_of_labs, epochs_of_notes, cohort, memory]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("umask", [0o000, 0o022], ids=["000", "022"])
@pytest.mark.parametrize("write", WRITERS)
def test_owner_alone(write, umask, world, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "remove", lambda self: None)
    folder = tmp_path / "private"
    before = os.umask(umask)
    try:
        write(world, fitted, folder)
    finally:
        os.umask(before)
    paths = [folder, *folder.rglob("*")]
    assert any(path.is_file() for path in paths)
    for path in paths:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path.relative_to(tmp_path)
