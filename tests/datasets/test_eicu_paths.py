import pytest

from sklearn_medfuse.datasets._loaders.eicu_forms import menu_of, read_finding, read_measurement

HISTORY = "notes/Progress Notes/Past History"
SYSTEMS = f"{HISTORY}/Organ Systems"
EXAM = "notes/Progress Notes/Physical Exam/Physical Exam"
PAGE = "notes/Progress Notes/Social History / Family History"


@pytest.mark.parametrize(
    ("menu", "choice", "expected"),
    [
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
    ],
)
def test_findings(menu, choice, expected):
    path = f"{menu}/{choice}" if menu else choice
    assert read_finding(path, choice) == expected
    assert menu_of(path, choice) == menu


@pytest.mark.parametrize(
    ("menu", "choice"),
    [
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
    ],
)
def test_clerical_entries(menu, choice):
    assert read_finding(f"{menu}/{choice}", choice) is None


@pytest.mark.parametrize(
    ("menu", "choice", "expected"),
    [
        ("Vital Sign and Physiological Data/HR", "HR Current", ("", "HR", "Current")),
        ("Vital Sign and Physiological Data/FiO2%", "FiO2%", ("", "FiO2%", "")),
        ("Weight and I&O/I&&O (ml)", "Urine", ("", "I&O (ml)", "Urine")),
        ("Weight and I&O/Weight (kg)", "Admission", ("", "Weight (kg)", "Admission")),
    ],
)
def test_measurements(menu, choice, expected):
    path = f"{EXAM}/Constitutional/{menu}/{choice}"
    assert read_measurement(path, choice) == expected


def test_number_of_copies_is_no_measurement():
    assert read_measurement("notes/Shared/View and Save/Save Options/Copies", "Copies") is None
