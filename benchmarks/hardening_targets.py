"""What is read from disk, tiny: how it is written, read, used, and sealed again after a forgery."""

import gc
import hashlib
import json
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import transformers
from hardening_common import save_tiny_bert, save_tiny_gguf
from packaging.version import Version

from sklearn_medfuse import (
    LLMNoteEncoder,
    MaskedLabEncoder,
    NoteWordEncoder,
    make_medfuse_pipeline,
)
from sklearn_medfuse._sealed_folder import seal
from sklearn_medfuse.datasets import Cohort, load_eicu_demo
from sklearn_medfuse.labs import _masked_lab
from sklearn_medfuse.notes import _fine_tuning, _folder_cache, _model_files
from sklearn_medfuse.notes._adapter import load_tuned_backbone
from sklearn_medfuse.notes._backbone import load_backbone
from sklearn_medfuse.notes._embedding_cache import process_cache
from sklearn_medfuse.notes._gguf import OLDEST_TRANSFORMERS
from sklearn_medfuse.persistence import PrivateMemory, load_model, save_model

CANARY_TEXT = "Zebulon Quixote"
LABS = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 2, "device": "cpu"}
FUSE = {"d_model": 8, "n_heads": 2, "n_estimators": 2, "max_epochs": 1, "device": "cpu"}
READS_GGUF = Version(transformers.__version__) >= Version(OLDEST_TRANSFORMERS)
NOTES = [f"Patient {CANARY_TEXT}.", "Known COPD.\n\nNo fever.", None, "Denies pain. " * 5]


@cache
def stays():
    """Forty stays, one with a text to look for in messages."""
    cohort = load_eicu_demo(n_labels=2).select(np.arange(40))
    note = cohort.X.columns.get_loc(cohort.note_column)
    cohort.X.iloc[0, note] = f"Patient {CANARY_TEXT}."
    return cohort


def lab_values():
    """The labs of the stays."""
    return stays().X[stays().lab_columns].iloc[:, :4]


def note_encoder(model, **params):
    """An encoder of the tiny BERT, without anything that an earlier case left in memory."""
    return LLMNoteEncoder(str(model), dtype="float32", device="cpu", random_state=0, **params)


def forget():
    """As in a new process."""
    for function in (load_backbone, load_tuned_backbone, _model_files.load_files):
        function.cache_clear()
    _folder_cache._open.cache_clear()
    process_cache.clear()
    gc.collect(0)


class Target:
    """One kind of file or folder.

    `read` gives what `use` turns to a result; both may also be done by `read`. `beside` is a
    folder that no case changes.
    """

    name = ""
    share = 1
    # whether a result other than the one that was written may come of files not sealed again
    may_differ = False

    def write(self, folder, beside):
        """Write what is whole."""
        raise NotImplementedError

    def read(self, folder, beside):
        """Read it."""
        raise NotImplementedError

    def use(self, read):
        """Give arrays."""
        return read

    def reseal(self, folder):
        """Make the digests right again, as a forger would; False where there is no way."""
        return False


class LabFolder(Target):
    """MaskedLabEncoder.save_pretrained."""

    name = "MaskedLabEncoder folder"
    share = 3

    def write(self, folder, beside):
        """Fit and save."""
        MaskedLabEncoder(4, **LABS, random_state=0).fit(lab_values()).save_pretrained(folder)

    def read(self, folder, beside):
        """Load."""
        return MaskedLabEncoder.from_pretrained(folder)

    def use(self, read):
        """Embed."""
        return read.transform(lab_values()[:5])

    def reseal(self, folder):
        """Seal the json again."""
        return _reseal_json(folder / "config.json")


class NoteFolder(Target):
    """The model folder of an encoder that was fitted before."""

    name = "LLMNoteEncoder model folder, fitted"
    share = 2

    def write(self, folder, beside):
        """Fit, and keep the encoder beside."""
        encoder = note_encoder(save_tiny_bert(folder)).fit(NOTES)
        (beside / "encoder.pkl").write_bytes(pickle.dumps(encoder))

    def read(self, folder, beside):
        """Embed, as in a new process."""
        forget()
        return pickle.loads((beside / "encoder.pkl").read_bytes()).transform(NOTES)


class NewNoteFolder(Target):
    """A model folder that nobody has seen whole."""

    name = "LLMNoteEncoder model folder, new"
    share = 2
    may_differ = True

    def write(self, folder, beside):
        """Save the model."""
        save_tiny_bert(folder)

    def read(self, folder, beside):
        """Fit and embed, as in a new process."""
        forget()
        return note_encoder(folder, local_files_only=True).fit_transform(NOTES)


class GgufFile(NoteFolder):
    """The GGUF file of an encoder that was fitted before."""

    name = "GGUF file, fitted"
    share = 1

    def write(self, folder, beside):
        """Fit, and keep the encoder beside."""
        encoder = note_encoder(save_tiny_gguf(folder / "tiny.gguf")).fit(NOTES)
        (beside / "encoder.pkl").write_bytes(pickle.dumps(encoder))


class NewGgufFile(Target):
    """A GGUF file that nobody has seen whole.

    It holds no digest, so other numbers in its tensors are another model, as they are in a folder.
    """

    name = "GGUF file, new"
    share = 2
    may_differ = True

    def write(self, folder, beside):
        """Save the model."""
        save_tiny_gguf(folder / "tiny.gguf")

    def read(self, folder, beside):
        """Fit and embed, as in a new process."""
        forget()
        return note_encoder(folder / "tiny.gguf").fit_transform(NOTES)


class Adapter(Target):
    """A note encoder with a LoRA adapter, saved."""

    name = "LLMNoteEncoder skops file with adapter"
    share = 2

    def write(self, folder, beside):
        """Fine-tune for an epoch and save."""
        model = save_tiny_bert(beside / "model")
        encoder = note_encoder(model, fine_tuning="lora", weights="adapter", max_epochs=1)
        notes = [f"{note} {i}" for i, note in enumerate(NOTES * 2)]
        save_model(encoder.fit(notes), folder / "notes.skops")

    def read(self, folder, beside):
        """Load."""
        forget()
        return load_model(folder / "notes.skops")

    def use(self, read):
        """Embed."""
        return read.transform(NOTES)


class WholeNoteModel(Adapter):
    """A note encoder that holds its model's files."""

    name = "LLMNoteEncoder skops file, weights='full'"

    def write(self, folder, beside):
        """Fit and save."""
        encoder = note_encoder(save_tiny_bert(beside / "model"), weights="full")
        save_model(encoder.fit(NOTES), folder / "notes.skops")


class SavedPipeline(Target):
    """A whole pipeline as a skops file."""

    name = "pipeline skops file"
    share = 3

    def write(self, folder, beside):
        """Fit and save."""
        pipe = make_medfuse_pipeline(
            list(lab_values()),
            stays().note_column,
            lab_encoder=MaskedLabEncoder(4, **LABS),
            note_encoder=NoteWordEncoder(4),
            random_state=0,
            **FUSE,
        )
        save_model(pipe.fit(stays().X, stays().y), folder / "pipe.skops")

    def read(self, folder, beside):
        """Load."""
        return load_model(folder / "pipe.skops")

    def use(self, read):
        """Predict."""
        return read.predict_proba(stays().X[:5])


class NoteCache(Target):
    """The folder of embedded windows."""

    name = "note-embedding cache"
    share = 2

    def write(self, folder, beside):
        """Embed into the cache."""
        encoder = note_encoder(save_tiny_bert(beside / "model"), cache=str(folder)).fit(NOTES)
        encoder.transform(NOTES)
        forget()
        (beside / "encoder.pkl").write_bytes(pickle.dumps(encoder))

    def read(self, folder, beside):
        """Embed with what the cache holds."""
        process_cache.clear()
        _folder_cache._open.cache_clear()
        return pickle.loads((beside / "encoder.pkl").read_bytes()).transform(NOTES)


class BrokenOff(_masked_lab.MaskedTrainer):
    """Ends like a killed process after the first epoch."""

    def one_pass(self, rows):
        """One epoch."""
        if self.loss_curve:
            raise InterruptedError
        super().one_pass(rows)


class LabCheckpoint(Target):
    """The checkpoint of a fit that was broken off."""

    name = "lab checkpoint"
    share = 2

    def write(self, folder, beside):
        """Fit, and keep the state of the first epoch."""
        before, _masked_lab.MaskedTrainer = _masked_lab.MaskedTrainer, BrokenOff
        try:
            self._encoder(folder).fit(lab_values())
        except InterruptedError:
            pass
        finally:
            _masked_lab.MaskedTrainer = before

    def read(self, folder, beside):
        """Go on with the fit."""
        return self._encoder(folder).fit(lab_values())

    def use(self, read):
        """Embed."""
        return read.transform(lab_values()[:5])

    def reseal(self, folder):
        """Put the right digest before the content."""
        for file in folder.glob("*.pt"):
            content = file.read_bytes()[32:]
            file.write_bytes(hashlib.sha256(content).digest() + content)
        return True

    def _encoder(self, folder):
        return MaskedLabEncoder(4, **LABS, random_state=0, checkpoint_dir=str(folder))


class TuningCheckpoint(LabCheckpoint):
    """The checkpoint of a fine-tuning that was broken off."""

    name = "fine-tuning checkpoint"
    share = 2

    def write(self, folder, beside):
        """Fit, and keep the state of the first epoch."""
        save_tiny_bert(beside / "model")
        run_epoch = _fine_tuning._run_epoch

        def break_off(*args):
            if any(folder.glob("*.pt")):
                raise InterruptedError
            run_epoch(*args)

        _fine_tuning._run_epoch = break_off
        try:
            self.read(folder, beside)
        except InterruptedError:
            pass
        finally:
            _fine_tuning._run_epoch = run_epoch

    def read(self, folder, beside):
        """Go on with the fit."""
        notes = [f"{note} {i}" for i, note in enumerate(NOTES * 2)]
        encoder = note_encoder(
            beside / "model", fine_tuning="lora", max_epochs=2, checkpoint_dir=str(folder)
        )
        return encoder.fit(notes, np.arange(len(notes)) % 2)

    def use(self, read):
        """Embed."""
        return read.transform(NOTES)


class CohortFolder(Target):
    """Cohort.to_parquet."""

    name = "Cohort.from_parquet"
    share = 3

    def write(self, folder, beside):
        """Write."""
        stays().to_parquet(folder)

    def read(self, folder, beside):
        """Read."""
        return Cohort.from_parquet(folder)

    def use(self, read):
        """Everything in it, as bytes."""
        frames = (read.X, read.y, read.groups.to_frame(), read.subgroups)
        content = "".join(frame.to_csv() for frame in frames)
        rest = {k: read[k] for k in ("counts", "units", "reference_ranges", "lab_columns")}
        digest = hashlib.sha256(content.encode() + repr(rest).encode()).digest()
        return np.frombuffer(digest, np.uint8)

    def reseal(self, folder):
        """Seal the json again."""
        return _reseal_json(folder / "cohort.json")


def double(X):
    """What is cached."""
    return 2 * X


class MemoryStore(Target):
    """A store of PrivateMemory."""

    name = "PrivateMemory store"
    share = 2

    def write(self, folder, beside):
        """Cache a result."""
        self.read(folder, beside)

    def read(self, folder, beside):
        """Call the cached function."""
        return PrivateMemory(folder).cache(double)(lab_values().to_numpy())


TARGETS = [
    LabFolder(),
    NoteFolder(),
    NewNoteFolder(),
    # an older transformers is refused, whatever the file
    *([GgufFile(), NewGgufFile()] if READS_GGUF else []),
    Adapter(),
    WholeNoteModel(),
    SavedPipeline(),
    NoteCache(),
    LabCheckpoint(),
    TuningCheckpoint(),
    CohortFolder(),
    MemoryStore(),
]


def _reseal_json(file: Path) -> bool:
    """Seal the folder of a json file again; False where it holds none any more."""
    try:
        content = json.loads(file.read_bytes())
        names = [name for name in content.get("files", {}) if (file.parent / name).is_file()]
        content.pop("sha256", None)
        content = seal(content, file.parent, names)
        file.write_text(json.dumps(content))
    except (ValueError, RecursionError, AttributeError, TypeError, OSError):
        return False
    return True
