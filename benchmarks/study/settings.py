"""The settings of a study, and where it keeps its results."""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from sklearn_medfuse.datasets import Cohort, load_eicu_demo, load_mimic3


@dataclass(frozen=True)
class Settings:
    """Cohort, note model and folds: what results depend on."""

    mimic3: str | None = None  # MIMIC-III's tables; None takes the bundled stays
    index_time: str = "48h"  # For MIMIC-III
    model: str | None = None  # None takes the default of `LLMNoteEncoder`
    fine_tuning: str | None = None  # How a note model is tuned for one more row
    max_epochs: int | None = None  # Of fine-tuning
    n_splits: int = 3
    n_candidates: int = 8  # That each search compares; 1 takes each model's first as it is


def open_cohort(folder, settings):
    """Make the folder and its cohort, or check that it was made with these settings."""
    file = folder / "settings.json"
    if file.exists():
        if read_settings(folder) != settings:
            raise SystemExit(
                f"'{folder}' holds a study with other settings; give another --folder."
            )
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    load_cohort(settings).to_parquet(folder / "cohort")
    # Last: without it, a killed run begins anew
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(settings), indent=2), encoding="utf-8")
    os.replace(unfinished, file)


def read_settings(folder):
    """Settings of the study in a folder."""
    text = (Path(folder) / "settings.json").read_text(encoding="utf-8")
    return Settings(**json.loads(text))


def read_cohort(folder):
    """Cohort of the study in a folder; all models read its labs and notes alone."""
    cohort = Cohort.from_parquet(Path(folder) / "cohort")
    cohort["X"] = cohort.X[[*cohort.lab_columns, cohort.note_column]]
    return cohort


def load_cohort(settings):
    """Load the stays; sections of notes that state the outcome are left out."""
    if settings.mimic3 is None:
        return load_eicu_demo()
    options = {"index_time": settings.index_time, "drop_note_sections": "outcome"}
    return load_mimic3(settings.mimic3, **options)


def prediction_files(folder, name, seed, n_splits):
    """Where a model's predictions of each fold are, or will be."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    place = Path(folder) / "predictions" / plain
    return [place / f"seed{seed}-fold{fold}.parquet" for fold in range(n_splits)]
