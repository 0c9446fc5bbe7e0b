"""A small fitted pipeline, disks that are full or cannot be written, and locales."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

import sklearn_medfuse
from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, make_medfuse_pipeline

ROOT = Path(sklearn_medfuse.__file__).parents[1]
LAB_NAMES = ["a", "b", "c"]


@pytest.fixture(scope="session")
def table():
    """Sixty stays, some without labs, some without a note; the notes hold non-ASCII characters."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 3)), columns=LAB_NAMES)
    X[rng.random(X.shape) < 0.3] = np.nan
    X["note"] = [f"Übelkeit seit {i} Tagen, {'Ödeme' * (i % 3)} 38,5 °C." for i in range(60)]
    X.loc[::7, "note"] = None
    return X


@pytest.fixture(scope="session")
def y():
    return pd.DataFrame(np.random.default_rng(1).integers(0, 2, (60, 2)), columns=["CHF", "COPD"])


@pytest.fixture(scope="session")
def make_lab_encoder():
    """Return a function that makes a small lab encoder."""

    def make(**params):
        small = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 3, "batch_size": 16}
        return MaskedLabEncoder(4, device="cpu", random_state=0, **small | params)

    return make


@pytest.fixture(scope="session")
def make_pipeline(tiny_bert, make_lab_encoder):
    """Return a function that makes a small pipeline."""

    def make(**note_params):
        notes = LLMNoteEncoder(tiny_bert, device="cpu", dtype="float32", **note_params)
        return make_medfuse_pipeline(
            LAB_NAMES,
            "note",
            views={},
            lab_encoder=make_lab_encoder(),
            note_encoder=notes,
            d_model=8,
            n_heads=2,
            n_estimators=2,
            max_epochs=2,
            device="cpu",
            random_state=0,
        )

    return make


@pytest.fixture(scope="session")
def pipeline(make_pipeline, table, y):
    """A fitted pipeline, which no test may change."""
    return make_pipeline().fit(table, y)


@pytest.fixture
def in_another_process(tmp_path):
    """Return a function that runs a program in a new process with this environment."""

    def run(program, *arguments, **environment):
        inherited = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-c", program, *map(str, arguments)],
            env=inherited | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def saved(pipeline, table, tmp_path):
    """Files of the fitted pipeline and of the table."""
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    joblib.dump(table, tmp_path / "table.joblib")
    return tmp_path / "pipeline.joblib", tmp_path / "table.joblib"


def _mount(*command):
    """Exit status of mount, 0 where all is well."""
    command = ["mount", *map(str, command)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def _unmount(folder):
    # Lazily: this process still has open files there
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def place():
    """A folder to mount in, which no other test run cleans up."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def small_disk(place):
    """A disk of 256 KiB."""
    folder = place / "disk"
    folder.mkdir()
    if sys.platform != "linux" or _mount("-t", "tmpfs", "-o", "size=256k", "none", folder):
        pytest.skip("only root may mount a small disk, and only on Linux")
    yield folder
    _unmount(folder)


@pytest.fixture
def fill():
    """Return a function that fills a disk with one file and returns that file."""

    def take_all(folder):
        file = folder / "ballast"
        with file.open("wb", buffering=0) as stream:
            while True:
                try:
                    stream.write(bytes(4096))
                except OSError:
                    return file

    return take_all


@pytest.fixture
def make_read_only(place):
    """Return a function that makes a folder read-only, even for root."""
    changed, mounted = [], []

    def change(folder):
        # Elsewhere, nothing could clean it up if this run is killed
        assert folder.is_relative_to(place)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not hasattr(os, "geteuid") or os.geteuid():
            changed.append(folder)
            folder.chmod(0o500)
            return
        if _mount("--bind", folder, folder):
            pytest.skip("root heeds no modes, and no file system may be mounted read-only here")
        mounted.append(folder)
        assert not _mount("-o", "remount,ro,bind", folder)

    yield change
    for folder in changed:
        folder.chmod(0o700)
    for folder in mounted:
        _unmount(folder)
