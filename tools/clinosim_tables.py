"""Turn hospitals that clinosim simulates into the tables that benchmarks read: notes and diagnoses.

    clinosim simulate --country US --population 5500 --seed 11 --start 2025-01-01 \
        --end 2025-12-31 --format cif -o hospital
    python tools/clinosim_tables.py FOLDER hospital/cif [another/cif ...]

`text_without_diagnoses` lacks the sections that name diagnoses or drugs.
"""

import json
import re
import sys
from pathlib import Path

import pandas as pd

NAMING = re.compile(
    "assessment.*|plan|ed_workup|past_medical_history|medications_at_home|hospital_course"
    "|family_history|discharge_(diagnoses|medications|instructions)|nursing_(history|diagnosis)"
    "|care_plan|admission_status|patient_education"
)


def without_diagnoses(kind, note):
    """Text of the sections that name none."""
    if kind.startswith("death"):
        return ""
    if not note["sections"]:
        lines = note["text"].splitlines()
        return "\n".join(line for line in lines if not line.startswith("Meds administered"))
    # Where it names the diseases that are followed up
    named = "subjective" if kind == "outpatient_soap" else None
    return "\n".join(
        f"{name.replace('_', ' ').capitalize()}: {text}"
        for name, text in note["sections"].items()
        if text and name != named and not NAMING.fullmatch(name)
    )


def main():
    """Write the tables."""
    notes, codes = [], []
    for number, folder in enumerate(map(Path, sys.argv[2:])):
        for path in sorted((folder / "structural" / "patients").glob("*.json")):
            visit = json.loads(path.read_text(encoding="utf-8"))
            patient = f"{number}-{visit['patient']['patient_id']}"
            found = [condition["code"] for condition in visit["patient"]["chronic_conditions"]]
            found.append((visit["clinical_diagnosis"] or {}).get("discharge_diagnosis_code"))
            # Z codes are reasons to come, not diseases
            codes += [(patient, code) for code in found if code and not code.startswith("Z")]
            for entry in visit["documents"]:
                name = f"{entry['encounter_id']}/{entry['document_id']}.json"
                file = folder / "narratives" / "template" / "documents" / name
                if file.exists():
                    note = json.loads(file.read_text(encoding="utf-8"))["narrative"]
                    told = without_diagnoses(entry["task_type"], note) or None
                    notes.append((patient, entry["authored_datetime"], note["text"], told))
    tables = {
        "notes": pd.DataFrame(
            notes, columns=["patient_id", "time", "text", "text_without_diagnoses"]
        ),
        "diagnoses": pd.DataFrame(codes, columns=["patient_id", "code"]),
        # Benchmarks of notes need none of its rows
        "lab_results": pd.DataFrame(columns=["patient_id", "time", "code", "value"], dtype=str),
    }
    for name, table in tables.items():
        table.to_parquet(Path(sys.argv[1]) / f"{name}.parquet")


if __name__ == "__main__":
    main()
