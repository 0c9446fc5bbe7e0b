"""What the paths through eICU's forms say in the notes."""

import pandas as pd

from sklearn_medfuse.datasets import load_eicu

from .conftest import EXAM, HISTORY, VITALS, entry_of, make_tables

SYSTEMS = f"{HISTORY}/Organ Systems"
PAGE = "notes/Progress Notes/Social History / Family History"


FINDINGS = [
    (
        f"{SYSTEMS}/Cardiovascular (R)/Hypertension Requiring Treatment",
        "hypertension requiring treatment",
        ("Cardiovascular", "", "hypertension requiring treatment"),
    ),
    (
        f"{SYSTEMS}/Cardiovascular (R)/Valve disease",
        "AR",
        ("Cardiovascular", "Valve disease", "AR"),
    ),
    (f"{SYSTEMS}/Pulmonary/COPD", "COPD  - moderate", ("Pulmonary", "", "COPD - moderate")),
    (f"{SYSTEMS}/Neurologic/Strokes", "stroke - remote", ("Neurologic", "", "stroke - remote")),
    (
        f"{SYSTEMS}/Renal  (R)/s/p Renal Transplant",
        "s/p renal transplant",
        ("Renal", "", "s/p renal transplant"),
    ),
    (
        f"{SYSTEMS}/Hematology/Oncology (R)/Cancer/Cancer-Primary Site",
        "lung",
        ("Hematology/Oncology", "Cancer-Primary Site", "lung"),
    ),
    (
        f"{HISTORY}/Past History Obtain Options",
        "No Health Problems",
        ("", "", "No Health Problems"),
    ),
    (
        f"{PAGE}/Social History/Social History/Ethanol Use",
        "none",
        ("Social History", "Ethanol Use", "none"),
    ),
    (
        f"{PAGE}/Family History/Family History Obtain Options",
        "Not Significant",
        ("Family History", "", "Not Significant"),
    ),
    (
        "notes/Progress Notes/Allergies / Preadmission Medications/Pre-Admission Medications",
        "Yes",
        ("Pre-Admission Medications", "", "Yes"),
    ),
    (
        "notes/Progress Notes/Interventions/Major",
        "Sepsis - evaluation and management",
        None,  # Names what is to be predicted
    ),
    (
        'notes/Progress Notes/Review Of Systems/Systems/Skin/Print "Negative"',
        "negative",
        ("Review Of Systems", "Skin", "negative"),
    ),
    (
        f"{EXAM}/Neurologic/GCS/Mental Status/Affect",
        "calm/appropriate",
        ("Neurologic", "GCS Mental Status Affect", "calm/appropriate"),
    ),
    (
        f"{EXAM}/Head and Neck/Ears/Nose/Mouth/Throat/Ears/normal",
        "normal",
        ("Head and Neck", "Ears", "normal"),
    ),
    (
        f"{EXAM}/Head and Neck/Eyes/Pupils/(symmetry)",
        "equal",
        ("Head and Neck", "Eyes Pupils (symmetry)", "equal"),
    ),
    (
        f"{EXAM}/Gastrointestinal/Palpation/Pain on Palpation",
        "no pain on palpation",
        ("Gastrointestinal", "", "no pain on palpation"),
    ),
    ("never seen/before", "finding", ("never seen", "before", "finding")),
    ("", "finding", ("", "", "finding")),
]
CLERICAL = [
    ("notes/Shared/View and Save/Save Options/Print/Copies", "Copies"),
    ("notes/Progress Notes/Assessment and Plan/View Options", "System View"),
    ("notes/Progress Notes/Assessment and Plan/Include Rx", "Include Rx"),
    (
        "notes/Progress Notes/Admission Page One/Skip Screen Options 2",
        "Include Past Medical History",
    ),
    (
        "notes/Progress Notes/Admission Page One/Source of Patient Information:",
        "Medical Records",
    ),
    ("notes/Procedure Notes/Shared/Billing Options/Option1", "This procedure was billed"),
    (f"{HISTORY}/Past History Obtain Options", "Performed"),
    (f"{HISTORY}/Past History Obtain Options", "Not Performed"),
    (
        "notes/Progress Notes/Physical Exam/Physical Exam Obtain Options",
        "Performed - Structured",
    ),
    (f"{EXAM}/Neurologic/GCS/Score", "scored"),
    (f"{EXAM}/Neurologic", ""),
]
MEASUREMENTS = [
    (f"{VITALS}/HR", "HR Current", "HR: Current 76"),
    (f"{VITALS}/FiO2%", "FiO2%", "FiO2%: 76"),
    (f"{EXAM}/Constitutional/Weight and I&O/I&&O (ml)", "Urine", "I&O (ml): Urine 76"),
    (
        f"{EXAM}/Constitutional/Weight and I&O/Weight (kg)",
        "Admission",
        "Weight (kg): Admission 76",
    ),
]


def notes_of(write, table, entries):
    """The notes of stays with one entry each, "" where it says nothing."""
    mini = make_tables()
    n_stays = len(entries)
    for form in ("pastHistory", "note", "physicalExam"):
        mini[form] = mini[form].iloc[:0]
    for name in ("patient", "apacheApsVar"):
        mini[name] = mini[name].iloc[[0] * n_stays].assign(patientunitstayid=range(n_stays))
    mini["patient"]["uniquepid"] = [f"patient {i}" for i in range(n_stays)]
    codes = [(i, i, 10, "I10") for i in range(n_stays)]
    mini["diagnosis"] = pd.DataFrame(codes, columns=mini["diagnosis"].columns)
    times = (5,) if table == "physicalExam" else (5, 9)
    rows = [(i, i, *times, *entry) for i, entry in enumerate(entries)]
    mini[table] = pd.DataFrame(rows, columns=mini[table].columns)
    return load_eicu(write(mini), n_labels=None).X["note"].fillna("").tolist()


def test_findings(write):
    entries = [
        (f"{menu}/{choice}" if menu else choice, choice, "x") for menu, choice, _ in FINDINGS
    ]
    said = [e and f"Notes: {': '.join(filter(None, e))}." for *_, e in FINDINGS]
    assert notes_of(write, "note", entries) == [text or "" for text in said]


def test_clerical_entries(write):
    entries = [entry_of(*each) for each in CLERICAL]
    entries.append(entry_of("notes/Shared/View and Save/Save Options", "Copies", "1"))
    entries.append(entry_of(f"{HISTORY}/Organ Systems/Renal", "dialysis"))
    assert notes_of(write, "note", entries) == [""] * len(CLERICAL) + [
        "",
        "Notes: Renal: dialysis.",
    ]


def test_measurements(write):
    entries = [entry_of(menu, choice, "76") for menu, choice, _ in MEASUREMENTS]
    said = [f"Measurements: {text}." for *_, text in MEASUREMENTS]
    assert notes_of(write, "physicalExam", entries) == said
