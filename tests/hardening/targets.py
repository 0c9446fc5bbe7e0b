"""What is read from disk, tiny: how it is written, read, used, and sealed again after a forgery."""

import gc
import hashlib
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import transformers
from packaging.version import Version

from sklearn_medfuse import (
    LLMNoteEncoder,
    MaskedLabEncoder,
    NoteWordEncoder,
    make_medfuse_pipeline,
)
from sklearn_medfuse._checkpoint import Checkpoint
from sklearn_medfuse._private_files import seal
from sklearn_medfuse.datasets import Cohort, load_eicu_demo
from sklearn_medfuse.notes._language_model.cache import process_cache
from sklearn_medfuse.persistence import PrivateMemory, load_model, save_model

CANARY_TEXT = "Zebulon Quixote"
LABS = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 2, "device": "cpu"}
FUSE = {"d_model": 8, "n_heads": 2, "n_estimators": 2, "max_epochs": 1, "device": "cpu"}
# An older transformers is refused, whatever the file
READS_GGUF = Version(transformers.__version__) >= Version("5.23")
NOTES = [f"Patient {CANARY_TEXT}.", "Known COPD.\n\nNo fever.", None, "Denies pain. " * 5]
TUNED_NOTES = [f"{note} {i}" for i, note in enumerate(NOTES * 2)]


@dataclass
class Target:
    """One kind of file or folder.

    Attributes
    ----------
    name : str
        What it is.
    write, read : callable
        Functions of (folder, beside). `beside` is a folder that no case changes.
    use : callable
        Turns what `read` gives to an array; both may be done by `read`.
    reseal : callable or None
        Makes the digests of a folder right again, as a forger would; False where there is no way.
    share : int
        How often it is drawn.
    may_differ : bool
        Whether files that were not sealed again may give another result than the one written.
    """

    name: str
    write: Callable
    read: Callable
    use: Callable = np.asarray
    reseal: Callable | None = None
    share: int = 2
    may_differ: bool = False


def make_targets(save_bert, save_gguf) -> dict[str, Target]:
    """All targets by name.

    Parameters
    ----------
    save_bert, save_gguf : callable
        Write a tiny model to a folder, or to a file.
    """
    cohort = load_eicu_demo(n_labels=2).select(np.arange(40))
    # One stay has a text to look for in messages
    cohort.X.iloc[0, cohort.X.columns.get_loc(cohort.note_column)] = f"Patient {CANARY_TEXT}."
    labs = cohort.X[cohort.lab_columns].iloc[:, :4]

    def embed(encoder):
        return encoder.transform(NOTES)

    def embed_labs(encoder):
        return encoder.transform(labs[:5])

    def keep_fitted(encoder, beside):
        (beside / "encoder.pkl").write_bytes(pickle.dumps(encoder.fit(NOTES)))

    def embed_as_fitted(folder, beside):
        forget()
        return embed(pickle.loads((beside / "encoder.pkl").read_bytes()))

    def fit_new(model):
        forget()
        return note_encoder(model, local_files_only=True).fit_transform(NOTES)

    def load(file):
        forget()
        return load_model(file)

    def write_adapter(folder, beside):
        encoder = note_encoder(
            save_bert(beside / "model"), fine_tuning="lora", weights="adapter", max_epochs=1
        )
        save_model(encoder.fit(TUNED_NOTES), folder / "notes.skops")

    def write_whole(folder, beside):
        encoder = note_encoder(save_bert(beside / "model"), weights="full")
        save_model(encoder.fit(NOTES), folder / "notes.skops")

    def write_pipeline(folder, beside):
        pipe = make_medfuse_pipeline(
            list(labs),
            cohort.note_column,
            views={},
            lab_encoder=MaskedLabEncoder(4, **LABS),
            note_encoder=NoteWordEncoder(4),
            random_state=0,
            **FUSE,
        )
        save_model(pipe.fit(cohort.X, cohort.y), folder / "pipe.skops")

    def write_note_cache(folder, beside):
        encoder = note_encoder(save_bert(beside / "model"), cache=str(folder)).fit(NOTES)
        embed(encoder)
        forget()
        keep_fitted(encoder, beside)

    def fit_labs(folder, beside):
        return MaskedLabEncoder(4, **LABS, random_state=0, checkpoint_dir=str(folder)).fit(labs)

    def tune(folder, beside):
        encoder = note_encoder(
            beside / "model", fine_tuning="lora", max_epochs=2, checkpoint_dir=str(folder)
        )
        return encoder.fit(TUNED_NOTES, np.arange(len(TUNED_NOTES)) % 2)

    def write_tuning(folder, beside):
        save_bert(beside / "model")
        break_off(tune, folder, beside)

    def cohort_bytes(read):
        frames = (read.X, read.y, read.groups.to_frame(), read.subgroups)
        content = "".join(frame.to_csv() for frame in frames)
        rest = {k: read[k] for k in ("counts", "units", "reference_ranges", "lab_columns")}
        digest = hashlib.sha256(content.encode() + repr(rest).encode()).digest()
        return np.frombuffer(digest, np.uint8)

    def double_from_memory(folder, beside):
        return PrivateMemory(folder).cache(double)(labs.to_numpy())

    note_folder = "LLMNoteEncoder model folder"
    targets = [
        Target(
            "MaskedLabEncoder, skops",
            lambda folder, _: save_model(
                MaskedLabEncoder(4, **LABS).fit(labs), folder / "labs.skops"
            ),
            lambda folder, _: load(folder / "labs.skops"),
            embed_labs,
            share=3,
        ),
        Target(
            f"{note_folder}, fitted",
            lambda folder, beside: keep_fitted(note_encoder(save_bert(folder)), beside),
            embed_as_fitted,
        ),
        Target(
            f"{note_folder}, new",
            lambda folder, _: save_bert(folder),
            lambda folder, _: fit_new(folder),
            may_differ=True,
        ),
        Target("LLMNoteEncoder skops file with adapter", write_adapter, _of_file(load), embed),
        Target("LLMNoteEncoder skops file, weights='full'", write_whole, _of_file(load), embed),
        Target(
            "pipeline skops file",
            write_pipeline,
            _of_file(load),
            lambda read: read.predict_proba(cohort.X[:5]),
            share=3,
        ),
        Target("note-embedding cache", write_note_cache, embed_as_fitted),
        Target(
            "lab checkpoint",
            lambda folder, beside: break_off(fit_labs, folder, beside),
            fit_labs,
            embed_labs,
            _reseal_checkpoint,
        ),
        Target("fine-tuning checkpoint", write_tuning, tune, embed, _reseal_checkpoint),
        Target(
            "Cohort.from_parquet",
            lambda folder, _: cohort.to_parquet(folder),
            lambda folder, _: Cohort.from_parquet(folder),
            cohort_bytes,
            lambda folder: _reseal_json(folder / "cohort.json"),
            share=3,
        ),
        Target("PrivateMemory store", double_from_memory, double_from_memory),
    ]
    if READS_GGUF:
        # A new one holds no digest: other numbers are another model, as in a folder
        targets += [
            Target(
                "GGUF file, fitted",
                lambda f, beside: keep_fitted(note_encoder(save_gguf(f / "tiny.gguf")), beside),
                embed_as_fitted,
                share=1,
            ),
            Target(
                "GGUF file, new",
                lambda folder, _: save_gguf(folder / "tiny.gguf"),
                _of_file(fit_new),
                may_differ=True,
            ),
        ]
    return {target.name: target for target in targets}


def double(X):
    """What is cached."""
    return 2 * X


def note_encoder(model, **params):
    """An encoder of a tiny model."""
    return LLMNoteEncoder(str(model), dtype="float32", device="cpu", random_state=0, **params)


def forget():
    """Forget models and vectors, as a new process would."""
    for name, module in list(sys.modules.items()):
        if name.startswith("sklearn_medfuse.notes."):
            for each in list(vars(module).values()):
                if hasattr(each, "cache_clear"):
                    each.cache_clear()
    process_cache.clear()
    gc.collect(0)


def break_off(fit, folder, beside):
    """End a fit, like a killed process, once the state of its first epoch is kept."""
    save = Checkpoint.save

    def save_once(self, state):
        save(self, state)
        raise InterruptedError

    with mock.patch.object(Checkpoint, "save", save_once):
        try:
            fit(folder, beside)
        except InterruptedError:
            return
    raise AssertionError("the fit keeps no state")


def _of_file(read):
    """A reader of a folder that holds one file."""
    return lambda folder, beside: read(next(folder.iterdir()))


def _reseal_checkpoint(folder) -> bool:
    """Put the right digest before the content."""
    for file in folder.glob("*.pt"):
        content = file.read_bytes()[32:]
        file.write_bytes(hashlib.sha256(content).digest() + content)
    return True


def _reseal_json(file: Path) -> bool:
    """Seal the folder of a json file again; False where it holds none any more."""
    try:
        content = json.loads(file.read_bytes())
        names = [name for name in content.get("files", {}) if (file.parent / name).is_file()]
        content.pop("sha256", None)
        file.write_text(json.dumps(seal(content, file.parent, names)))
    except (ValueError, RecursionError, AttributeError, TypeError, OSError):
        return False
    return True
