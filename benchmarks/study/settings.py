"""The settings of a study, and where it keeps its results."""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from sklearn_medfuse.datasets import Cohort, load_eicu_demo, load_mimic3


@dataclass(frozen=True)
class Settings:
    """Cohort, note model and folds: what results depend on."""

    mimic3: str | None = None  # MIMIC-III's tables; None takes the bundled stays
    index_time: str = "48h"  # For MIMIC-III
    hospital: str | None = None  # A simulated hospital's tables
    text: str = "text_without_diagnoses"  # Of the simulated hospital's notes
    model: str | None = None  # None takes the default of `LLMNoteEncoder`
    fine_tuning: str | None = None  # How a note model is tuned for one more row
    max_epochs: int | None = None  # Of fine-tuning
    n_splits: int = 3
    n_candidates: int = 8  # That each search compares; 1 takes each model's first as it is

    @property
    def stays(self):
        """Whose stays they are."""
        if self.hospital is not None:
            return f"the simulated hospital, {self.text}"
        return "the bundled stays" if self.mimic3 is None else "MIMIC-III"


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
    if settings.hospital is not None:
        return load_hospital(Path(settings.hospital), settings.text)
    if settings.mimic3 is None:
        return load_eicu_demo()
    options = {"index_time": settings.index_time, "drop_note_sections": "outcome"}
    return load_mimic3(settings.mimic3, **options)


def load_hospital(folder, text):
    """Patients of clinosim's tables: all notes, the last value of each lab, ten ICD-10 groups."""
    labs, notes, diagnoses = (
        pd.read_parquet(folder / f"{name}.parquet")
        for name in ("lab_results", "notes", "diagnoses")
    )
    labs["value"] = pd.to_numeric(labs["value"], errors="coerce")
    last = labs.sort_values("time").pivot_table("value", "patient_id", "code", aggfunc="last")
    of_patient = notes.sort_values("time").groupby("patient_id")[text]
    note = of_patient.agg(lambda texts: "\n\n".join(texts.dropna()))
    diagnoses["group"] = diagnoses["code"].str[:3]
    counts = diagnoses.groupby("group")["patient_id"].nunique().nlargest(10)
    patients = note.index.union(last.index)
    y = pd.crosstab(diagnoses["patient_id"], diagnoses["group"]).clip(upper=1)[counts.index]
    # A lab that hardly any patient has tells nothing
    X = last.reindex(patients).astype(float).dropna(axis=1, thresh=30).add_prefix("loinc ")
    return Cohort(
        X=X.assign(note=note.reindex(patients).astype(object)),
        y=y.reindex(patients, fill_value=0),
        groups=pd.Series(patients, patients, name="patient_id"),
        hospitals=None,
        subgroups=pd.DataFrame(index=patients),
        lab_columns=list(X),
        note_column="note",
        units={},
        reference_ranges={},
        target_names=list(y),
        stay_ids=patients.to_numpy(),
    )


def prediction_files(folder, name, seed, n_splits):
    """Where a model's predictions of each fold are, or will be."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    place = Path(folder) / "predictions" / plain
    return [place / f"seed{seed}-fold{fold}.parquet" for fold in range(n_splits)]
