"""Cells as pandas, R and databases write them, with values worked out by hand."""

import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_clif, load_mimic3, load_mimic4, load_omop, load_tables

from .conftest import write_tables
from .formats import as_clif, as_mimic3, as_mimic4, as_omop, long_tables, with_icd9

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

EMPTY = ["", "NA", " NA ", "<NA>", "N/A", "#N/A", "NULL", "null", "NaN", "nan", "NaT", "\\N"]
NINE = ["9", "9.0", " 9 ", "09", "ICD9", "ICD-9", "icd9cm", "ICD-9-CM", "ICD9-CM", "ICD 9 CM"]
TEN = ["10", "10.0", "ICD10", "ICD-10", "icd10cm", "ICD-10-CM", "ICD10-CM", "ICD 10 CM"]
# Code -> the group that it is in under ICD-9-CM and under ICD-10-CM, and under the version that its
# form tells. V45.11 is dialysis in ICD-9 and a collision in ICD-10, E87.1 low sodium in ICD-10 and
# an accident in ICD-9.
GROUPS = {
    "V4511": ("renal_failure", None, "renal_failure"),
    "E871": (None, "fluid_and_electrolyte_disorders", "fluid_and_electrolyte_disorders"),
    "E8710": (None, "fluid_and_electrolyte_disorders", None),
    "E9500": (None, None, None),
    "4280": ("congestive_heart_failure", None, "congestive_heart_failure"),
    "I509": (None, "congestive_heart_failure", "congestive_heart_failure"),
}


def files(folder, **tables):
    """Files of lines; returns their paths by name."""
    folder.mkdir(exist_ok=True)
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return [folder / f"{name}.csv" for name in ("labs", "notes", "diagnoses", "stays")]


def own_tables(folder, *, stay="1", code="I509", version="10", died="0", empty="", note="calm"):
    """One stay of interest, and another without a missing cell."""
    start, time, end = "2130-05-01 08:00:00", "2130-05-01 09:00:00", "2130-05-06 08:00:00"
    return files(
        folder,
        stays=[
            "stay_id,patient_id,start,end,age,birth_date,sex,died,hospital_id",
            f"{stay},7,{start},{end},{empty},{empty},{empty},{died},{empty}",
            f"2,8,{start},{end},50,2080-01-01,F,0,3",
        ],
        labs=[
            "stay_id,name,value,text_value,unit,time,stored_time,ref_low,ref_high",
            f"{stay},Sodium,140,{empty},{empty},{time},{empty},{empty},{empty}",
            f"{stay},Sodium,{empty},{empty},mmol/L,{time},{time},{empty},{empty}",
            f"{empty},Sodium,999,{empty},mmol/L,{time},{time},{empty},{empty}",
            f"{stay},Sodium,999,{empty},mmol/L,{empty},{time},{empty},{empty}",
            f"2,Sodium,141,{empty},mmol/L,{time},{time},135,145",
        ],
        notes=[
            "stay_id,time,stored_time,type,text",
            f"{stay},{time},{empty},{empty},{note}",
            f"{stay},{time},{empty},{empty},{empty}",
            f"2,{time},{time},ECG,even",
        ],
        diagnoses=[
            "stay_id,code,version",
            f"{stay},{code},{version}",
            f"{stay},{empty},{version}",
            # In no group
            f"{stay},R079,{version if version.strip() in EMPTY else 10}",
            "2,I10,10",
        ],
    )


def groups_of(cohort, stay):
    return [name for name in cohort.y if cohort.y.loc[stay, name] == 1]


@pytest.mark.parametrize("empty", EMPTY)
def test_what_stands_for_an_empty_cell_is_one(empty, tmp_path):
    cohort = load_tables(*own_tables(tmp_path, empty=empty), n_labels=None)
    assert cohort.X["Sodium"].to_dict() == {"1": 140.0, "2": 141.0}
    assert cohort.X["note"].to_dict() == {"1": "calm", "2": "even"}
    assert cohort.X["age"].isna().tolist() == [True, False]
    assert cohort.X["sex"].isna().tolist() == [True, False]
    assert cohort.hospitals.isna().tolist() == [True, False]
    assert groups_of(cohort, "1") == ["congestive_heart_failure"]
    report = cohort.report()
    dropped = {of: n for of, n in report.items() if "rows dropped" in of}
    assert dropped == {
        "diagnoses rows dropped: without a code": 1,
        "labs rows dropped: without a stay": 1,
        "labs rows dropped: without a time": 1,
        "labs rows dropped: without a number": 1,
        "notes rows dropped: without a text": 1,
    }


@pytest.mark.parametrize("version", [*NINE, *TEN, *EMPTY])
def test_versions_of_icd_in_tables_of_your_own(version, tmp_path):
    """One stay per code, and a code in no group, so that its labels are known."""
    told = 10 if version in EMPTY else version
    paths = files(
        tmp_path,
        stays=["stay_id,patient_id,start", *(f"{code},{code},2130-05-01" for code in GROUPS)],
        labs=[
            "stay_id,name,value,time",
            *(f"{code},Sodium,140,2130-05-01 09:00" for code in GROUPS),
        ],
        notes=["stay_id,time,text"],
        diagnoses=[
            "stay_id,code,version",
            *(f"{code},{code},{version}\n{code},R079,{told}" for code in GROUPS),
        ],
    )
    cohort = load_tables(*paths, n_labels=None)
    place = 0 if version in NINE else 1 if version in TEN else 2
    expected = {code: [groups[place]] if groups[place] else [] for code, groups in GROUPS.items()}
    assert {code: groups_of(cohort, code) for code in cohort.stay_ids} == expected


@pytest.mark.parametrize("version", [*NINE, *TEN])
def test_versions_of_icd_in_published_tables(version, write):
    """All codes in ICD-9 or in ICD-10, whatever the way of writing it."""
    tables = long_tables()
    plain = "9" if version in NINE else "10"
    for load, lay_out, table, column in (
        (load_mimic4, as_mimic4, "diagnoses_icd", "icd_version"),
        (load_clif, as_clif, "clif_hospital_diagnosis", "diagnosis_code_format"),
    ):
        frames = lay_out(tables)
        expected = load(write({**frames, table: frames[table].assign(**{column: plain})}))
        found = load(write({**frames, table: frames[table].assign(**{column: version})}))
        pd.testing.assert_frame_equal(found.y, expected.y)
        name = "congestive_heart_failure"
        # I50.9 is I509 there, 4280 the same in ICD-9
        assert expected.y.get(name, pd.Series(0)).sum() > 0


@pytest.mark.parametrize("stay", ["1", "1.0", "1.00", " 1 "])
def test_ids_with_a_point(stay, tmp_path):
    labs, notes, codes, stays = own_tables(tmp_path, stay=stay)
    for file in (notes, codes):
        file.write_text(file.read_text().replace(f"\n{stay},", "\n1,"))
    cohort = load_tables(labs, notes, codes, stays, n_labels=None)
    assert cohort.X["Sodium"].to_dict() == {"1": 140.0, "2": 141.0}
    assert cohort.X["note"].tolist() == ["calm", "even"]
    assert groups_of(cohort, "1") == ["congestive_heart_failure"]


@pytest.mark.parametrize(
    ("load", "lay_out"),
    [
        (load_mimic3, lambda tables: as_mimic3(with_icd9(tables))),
        (load_mimic4, as_mimic4),
        (load_omop, as_omop),
        (load_clif, as_clif),
    ],
)
def test_ids_of_published_tables_as_floats(load, lay_out, write):
    frames = lay_out(long_tables())
    expected = load(write(frames))
    ids = ("hadm_id", "subject_id", "itemid", "visit_occurrence_id", "person_id")
    ids += ("hospitalization_id", "patient_id", "measurement_concept_id")
    texts = {
        name: frame.assign(
            **{
                column: frame[column].astype("string").str.replace(r"(\.0)?$", ".0", regex=True)
                for column in frame.columns.intersection(list(ids))
            }
        )
        for name, frame in frames.items()
    }
    cohort = load(write(texts))
    pd.testing.assert_frame_equal(cohort.X, expected.X)
    pd.testing.assert_frame_equal(cohort.y, expected.y)
    assert cohort.groups.tolist() == expected.groups.tolist()


FLAGS = {
    1: ["1", "1.0", "True", "TRUE", "true", "t", "Y", "y", "Yes", " yes "],
    0: ["0", "0.0", "False", "FALSE", "f", "N", "n", "No"],
}


@pytest.mark.parametrize(("flag", "died"), [(flag, n) for n in FLAGS for flag in FLAGS[n]])
def test_flags(flag, died, tmp_path):
    paths = own_tables(tmp_path / "own", died=flag)
    cohort = load_tables(*paths, n_labels=1, outcomes=["mortality"])
    assert cohort.y["mortality"].to_dict() == {"1": died, "2": 0}
    frames = as_mimic4(long_tables())
    frames["admissions"]["hospital_expire_flag"] = flag
    folder = write_tables(tmp_path / "mimic4", frames)
    cohort = load_mimic4(folder, phenotypes=None, outcomes=["mortality"])
    assert set(cohort.y["mortality"]) == {died}


@pytest.mark.parametrize("flag", EMPTY)
def test_a_missing_flag_is_an_unknown_outcome(flag, tmp_path):
    cohort = load_tables(*own_tables(tmp_path, died=flag), n_labels=1, outcomes=["mortality"])
    assert cohort.y["mortality"].isna().to_dict() == {"1": True, "2": False}
    assert cohort.report()["labels not known: mortality"] == 1


def test_a_flag_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"column 'died': 1 of 2 cells are not 1 or 0, yes or no"):
        load_tables(*own_tables(tmp_path, died="perhaps"))


@pytest.mark.parametrize(
    ("age", "years"),
    [("91", 91), ("> 89", 90), (">89", 90), ("90+", 90), (">= 90", 90), ("89.0", 89), ("0", 0)],
)
def test_ages_as_they_are_published(age, years, tmp_path):
    labs, notes, codes, stays = own_tables(tmp_path)
    stays.write_text(stays.read_text().replace(",50,2080-01-01,", f",{age},2080-01-01,"))
    assert load_tables(labs, notes, codes, stays).X["age"]["2"] == years


def test_numbers_that_are_no_age_are_missing_and_counted(tmp_path):
    """300 years stands for "hidden" in some copies, -1 for "unknown"; 130 is the oldest."""
    stays = pd.DataFrame(
        {
            "stay_id": range(6),
            "patient_id": range(6),
            "start": pd.Timestamp("2020-01-01"),
            "end": pd.Timestamp("2020-01-09"),
            "age": [300, -1, 45, 130, 0, None],
        }
    )
    when = {"stay_id": range(6), "time": pd.Timestamp("2020-01-01 05:00")}
    labs = pd.DataFrame(when | {"name": "sodium", "value": 140.0})
    notes = pd.DataFrame(when | {"text": "cough"})
    diagnoses = pd.DataFrame({"stay_id": range(6), "code": ["I50.9", "J44.9"] * 3})
    cohort = load_tables(labs, notes, diagnoses, stays, icd_version=10)
    assert cohort.X["age"].fillna(-9).tolist() == [-9, -9, 45, 130, 0, -9]
    assert cohort.report()["ages unknown: not from 0 to 130 years"] == 2
