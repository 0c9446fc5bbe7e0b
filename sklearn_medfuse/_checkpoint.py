"""Where a long training keeps its state, so that a killed process loses at most one epoch."""

import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ._private_files import remove_abandoned, write_private

# A SHA-256 digest comes before torch's own format, since torch reads changed weights silently
_DIGEST_BYTES = 32


class Checkpoint:
    """One training's state in a file of its own, written whole or not at all.

    The file's name is `name`, which says what trains, and a fingerprint of `parts`, bytes or json
    values, which are all that the result depends on. So a training with other data or other
    parameters does not find it. A file in which a byte has changed is refused.

    A folder that cannot be written to raises ValueError now rather than after the first epoch.
    """

    def __init__(self, folder, name: str, parts: list):
        digest = hashlib.sha256()
        for part in parts:
            raw = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
            digest.update(len(raw).to_bytes(8, "big") + raw)
        self.path = Path(folder) / f"{name}-{digest.hexdigest()[:32]}.pt"
        self._has_failed = False
        self._was_loaded = False
        folder = self.path.parent
        try:
            # No chmod: the folder may be one that the user shares
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            problem = "" if os.access(folder, os.W_OK) else "no permission to write there"
        except OSError as error:
            problem = str(error.strerror)
        if problem:
            raise ValueError(
                f"checkpoint_dir={str(folder)!r} cannot be written to ({problem}); name a folder "
                "that can, or None."
            )

    def save(self, state: dict) -> None:
        """Keep a state: tensors, numbers and texts in dicts and lists.

        If the disk is full, the previous state stays and training goes on.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        try:
            write_private(self.path, hashlib.sha256(content).digest() + content)
        except OSError as error:
            if not self._has_failed:
                warnings.warn(
                    "The state of the training could not be kept in checkpoint_dir "
                    f"({error.strerror}); training goes on, but if it is killed, it resumes from "
                    "the last state that was kept. Make room on that disk.",
                    UserWarning,
                    stacklevel=2,
                )
            self._has_failed = True

    def load(self) -> dict | None:
        """Return the state, or None if there is none."""
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        self._was_loaded = True
        with self.restoring():
            if hashlib.sha256(content).digest() != digest or not _is_plain(content):
                raise ValueError("a byte has changed")
            return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))

    @contextmanager
    def restoring(self, failures: type[Exception] = Exception) -> Iterator[None]:
        """Say which file is at fault if the state loaded from it does not fit, or has no solution.

        A forged file may hold anything, so any exception counts unless `failures` names a kind.
        """
        try:
            yield
        except failures:
            if not self._was_loaded:
                raise
            raise ValueError(
                f"The checkpoint {self.path.name} of {str(self.path.parent)!r} cannot be read. "
                "Remove it to begin again."
            ) from None

    def remove(self) -> None:
        """Remove the file: the training is done."""
        self.path.unlink(missing_ok=True)
        remove_abandoned(self.path.parent)


def _is_plain(content: bytes) -> bool:
    """Whether this is an archive of torch's kind, with nothing compressed that could explode."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False
    return all(part.compress_type == zipfile.ZIP_STORED for part in parts)


def load_optimizer(optimizer: torch.optim.Optimizer, schedule: Any, state: dict) -> None:
    """Load an optimiser and its schedule from a checkpoint's state.

    Torch accepts anything here, and what does not fit would fail in the middle of a step.
    """
    optimizer.load_state_dict(state["optimizer"])
    for parameter, moments in optimizer.state.items():
        for moment in moments.values():
            if moment.dim() and moment.shape != parameter.shape:
                raise ValueError("a moment of the optimiser has another shape than its parameter")
    before = schedule.state_dict()
    if {name: type(value) for name, value in before.items()} != {
        name: type(value) for name, value in state["schedule"].items()
    }:
        raise ValueError("the schedule's settings are of other kinds")
    schedule.load_state_dict(state["schedule"])
