"""Private files are written whole, and what killed writers left goes, but nothing else."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from sklearn_medfuse import _private_files

WRITER = """
import os, signal, sys
from pathlib import Path
from sklearn_medfuse._private_files import temporary_in
with temporary_in(Path(sys.argv[1]), directory=sys.argv[2] == "folder") as new:
    print(new, flush=True)
    sys.stdin.read()
"""
KINDS = pytest.mark.parametrize("kind", ["file", "folder"])


@pytest.fixture
def writer(tmp_path, kind):
    """Another process that is in the middle of writing."""
    command = [sys.executable, "-c", WRITER, str(tmp_path), kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


def temporaries(folder):
    return list(folder.glob(".writing-*"))


@KINDS
def test_what_is_being_written_is_left_alone(tmp_path, writer):
    _private_files.remove_abandoned(tmp_path)
    _private_files.write_private(tmp_path / "other", b"1")
    assert len(temporaries(tmp_path)) == 1
    writer.stdin.close()
    assert writer.wait() == 0
    assert temporaries(tmp_path) == []


@KINDS
def test_what_a_killed_writer_left_goes_at_once(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(temporaries(tmp_path)) == 1
    _private_files.write_private(tmp_path / "file", b"content")
    assert temporaries(tmp_path) == []
    assert (tmp_path / "file").read_bytes() == b"content"


@KINDS
@pytest.mark.parametrize("days", [-2, 0, 2])
def test_without_locks_age_tells(tmp_path, kind, days, monkeypatch):
    def refuse(*args):
        raise OSError("no locks here")

    left = tmp_path / ".writing-left"
    left.mkdir() if kind == "folder" else left.touch()
    os.utime(left, (0, time.time() + days * 24 * 3600))
    monkeypatch.setattr(fcntl, "flock", refuse)
    _private_files.remove_abandoned(tmp_path)
    # One from the future was written before the clock was set back
    assert left.exists() == (days == 0)


def test_a_platform_without_locks_writes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(_private_files, "fcntl", None)
    _private_files.write_private(tmp_path / "file", b"content")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    with _private_files.temporary_in(tmp_path, directory=True):
        _private_files.remove_abandoned(tmp_path)
        assert len(temporaries(tmp_path)) == 1


def test_one_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, names = _private_files._lock, []

    def sweep_first(path):
        names.append(path)
        if len(names) == 1:
            _private_files.remove_abandoned(tmp_path)
        return lock(path)

    monkeypatch.setattr(_private_files, "_lock", sweep_first)
    _private_files.write_private(tmp_path / "file", b"content")
    assert len(names) == 2
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_failed_writing_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    _private_files.write_private(tmp_path / "file", b"before")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        _private_files.write_private(tmp_path / "file", b"after")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


def test_modes_whatever_the_umask(tmp_path):
    old_mask = os.umask(0)
    try:
        _private_files.make_private_folder(tmp_path / "folder")
        _private_files.write_private(tmp_path / "folder" / "file", b"1")
        _private_files.load_key(tmp_path / "folder" / "key")
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "folder").iterdir()} == {0o600}
