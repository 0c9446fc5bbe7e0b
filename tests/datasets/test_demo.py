import hashlib
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sklearn_medfuse
from sklearn_medfuse.datasets import load_eicu, load_eicu_demo

from .formats import DAY_1

BUNDLED = Path(sklearn_medfuse.__file__).parent / "datasets" / "data" / "eicu_demo"
TABLES = ["patient", "diagnosis", "lab", "apacheApsVar", "pastHistory", "note", "physicalExam"]
TOOL = Path(__file__).parents[2] / "tools" / "make_eicu_demo.py"


@pytest.fixture(scope="module")
def demo():
    return load_eicu_demo()


@pytest.fixture(scope="module")
def published(shared_data):
    folder = shared_data / "eicu_demo_dev"
    return {name: pd.read_csv(folder / f"{name}.csv.gz") for name in TABLES}


def test_size_and_notice():
    assert {file.stem for file in BUNDLED.glob("*.parquet")} == set(TABLES)
    assert sum(file.stat().st_size for file in BUNDLED.parent.rglob("*")) < 2e6
    notice = (BUNDLED.parent / "LICENSE-ODbL.txt").read_text()
    for word in ("Open Database License", "10.13026/4mxk-na84", "opendatacommons.org"):
        assert word in notice
        assert word in (BUNDLED / "README.md").read_text() + notice


def test_what_the_demo_is(demo):
    assert demo.X.shape == (829, 20)
    assert set(demo.lab_columns) == set(DAY_1)
    assert demo.y.shape == (829, 10)
    assert demo.y.mean().is_monotonic_decreasing
    assert demo.target_names[0] == "cardiac_arrhythmias"
    assert set(np.unique(demo.y)) == {0, 1}
    assert demo.groups.nunique() == 697
    assert demo.X[demo.lab_columns].min().min() > -1


def test_the_demo_stays_what_published_results_were_made_of(demo):
    tables = {**demo, "X": demo.X.drop(columns=demo.demographic_columns)}
    digests = {
        name: hashlib.sha256(tables[name].to_csv().encode()).hexdigest()[:16]
        for name in ("X", "y", "groups")
    }
    assert digests == {
        "X": "75c71be25273ea0f",
        "y": "1f8bbc62bd2a2133",
        "groups": "432cda50697f8f9e",
    }


def test_outcomes_of_the_demo(demo, published):
    outcomes = ["mortality", "length_of_stay_3d", "readmission_30d"]
    cohort = load_eicu_demo(phenotypes=None, outcomes=outcomes[:2])
    stays = published["patient"].set_index("patientunitstayid").loc[cohort.stay_ids]
    dead = stays["unitdischargestatus"] == "Expired"
    assert cohort.y["mortality"].tolist() == dead.astype(int).tolist()
    long = stays["unitdischargeoffset"] > 3 * 1440
    assert cohort.y["length_of_stay_3d"].tolist() == long.astype(int).tolist()
    assert (stays["unitdischargeoffset"] > 1440).all()
    later = load_eicu_demo(phenotypes=None, outcomes=outcomes[2:]).y["readmission_30d"]
    stays = published["patient"].set_index("patientunitstayid")
    of_visit = stays.groupby("patienthealthsystemstayid")["hospitaladmitoffset"]
    again = stays["hospitaladmitoffset"] > of_visit.transform("min")
    assert set(later.index[later == 1]) == set(again.index[again]) & set(later.index)
    assert later.nunique() == 2


def test_loads_in_seconds():
    start = time.perf_counter()
    load_eicu_demo()
    assert time.perf_counter() - start < 10


def test_representation_shows_no_value_of_a_patient(demo):
    shown = repr(demo) + demo._repr_html_()
    assert len(shown) < 400
    assert not any(str(stay) in shown for stay in demo.stay_ids)


@pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")
def test_parameters_reach_the_loader():
    cohort = load_eicu_demo(
        index_time="6h", n_labels=["obesity"], require="notes", admission_diagnosis=True
    )
    assert cohort.target_names == ["obesity"]
    assert cohort.X["note"].notna().all()
    assert cohort.X["note"].str.startswith("Admission diagnosis: ").mean() > 0.8
    assert "heartrate" not in cohort.X
    with pytest.raises(ValueError, match="lookback"):
        load_eicu_demo(lookback="-1h")
    assert load_eicu_demo(min_coverage=0.01).X.shape[1] > 18


def test_equals_the_published_tables(demo, shared_data):
    full = load_eicu(shared_data / "eicu_demo_dev")
    pd.testing.assert_frame_equal(demo.X, full.X, check_exact=True)
    pd.testing.assert_frame_equal(demo.y, full.y)
    pd.testing.assert_frame_equal(demo.subgroups, full.subgroups)
    pd.testing.assert_series_equal(demo.groups, full.groups)
    assert demo.report() == full.report()
    assert demo.units == full.units


def test_the_tool_makes_the_same_bytes(shared_data, tmp_path, monkeypatch, capsys):
    for run in ("one", "two"):
        arguments = [str(shared_data / "eicu_demo_dev"), "--output", str(tmp_path / run)]
        monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments])
        runpy.run_path(str(TOOL), run_name="__main__")
    assert "total" in capsys.readouterr().out
    for file in BUNDLED.glob("*.parquet"):
        made = (tmp_path / "one" / file.name).read_bytes()
        assert made == (tmp_path / "two" / file.name).read_bytes()
        # The bytes of the bundled files depend on the pyarrow that wrote them; the data do not
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / "one" / file.name), pd.read_parquet(file)
        )


def test_stays_against_plain_pandas(demo, published):
    patient, diagnosis = published["patient"], published["diagnosis"]
    coded = set(diagnosis.dropna(subset=["icd9code"])["patientunitstayid"])
    apache = published["apacheApsVar"].set_index("patientunitstayid")[list(DAY_1)]
    with_labs = set(apache.index[(apache != -1).any(axis=1)])
    lab = published["lab"]
    mapped = "WBC x 1000|sodium|pH|Hct|creatinine|albumin|paO2|paCO2|BUN|glucose|total bilirubin"
    lab = lab[lab["labname"].str.fullmatch(mapped) & lab["labresult"].notna()]
    lab = lab[(lab["labresultoffset"] <= 1440) & (lab["labresultrevisedoffset"] <= 1440)]
    with_labs |= set(lab.loc[lab["labresultoffset"] >= -1440, "patientunitstayid"])

    still_there = patient["unitdischargeoffset"] >= 1440
    here = set(patient.loc[still_there, "patientunitstayid"])
    kept = set(demo.stay_ids)
    assert kept <= here & coded
    lab_columns = demo.X[demo.lab_columns]
    assert set(lab_columns.index[lab_columns.notna().any(axis=1)]) == with_labs & coded & here
    report = demo.report()
    assert report["stays read"] == len(patient) == 1470
    n_uncoded = len(here - coded)
    assert report["stays dropped: without a diagnosis code"] == n_uncoded
    coded_rows = diagnosis["icd9code"].notna() & diagnosis["patientunitstayid"].isin(here)
    assert report["diagnosis rows kept"] == coded_rows.sum()
    assert report["stays kept: without labs"] == len(kept - with_labs)


def test_values_against_plain_pandas(demo, published):
    apache = published["apacheApsVar"].set_index("patientunitstayid").reindex(demo.stay_ids)
    for column in DAY_1:
        day_1 = apache[column].where(apache[column] != -1)
        known = day_1.notna().to_numpy()
        np.testing.assert_array_equal(demo.X[column][known], day_1[known])

    lab = published["lab"].query("labname == 'sodium' and -1440 <= labresultoffset <= 1440")
    lab = lab[lab["labresultrevisedoffset"] <= 1440].sort_values("labresultoffset")
    last = lab.groupby("patientunitstayid")["labresult"].last()
    filled = demo.X.index.intersection(last.index).difference(
        apache.index[apache["sodium"].fillna(-1) != -1]
    )
    assert len(filled) > 0
    np.testing.assert_array_equal(demo.X.loc[filled, "sodium"], last[filled])


def test_labels_against_plain_pandas(demo, published):
    diagnosis = published["diagnosis"].dropna(subset=["icd9code"])
    patterns = {
        "hypertension_uncomplicated": r"(?:^|[, ])(?:401|I10)",
        "congestive_heart_failure": r"(?:^|[, ])(?:428|425\.[4-9]|398\.91|40[24]\.[019]1"
        r"|404\.[019]3|I50|I42\.[05-9]|I09\.9|I11\.0|I13\.[02]|I25\.5|I43|P29\.0)",
        "chronic_pulmonary_disease": r"(?:^|[, ])(?:49\d|50[0-5]|J4[0-7]|416\.[89]|I27\.[89])",
    }
    for name, pattern in patterns.items():
        found = diagnosis.loc[diagnosis["icd9code"].str.contains(pattern), "patientunitstayid"]
        assert set(demo.y.index[demo.y[name] == 1]) == set(found) & set(demo.stay_ids)


def test_texts_against_plain_pandas(demo, published):
    exam = published["physicalExam"].query("physicalexamoffset <= 1440")
    heart_rate = exam[exam["physicalexamvalue"] == "HR Current"]
    latest = heart_rate.sort_values("physicalexamoffset").groupby("patientunitstayid").last()
    said = demo.X["note"].str.extract(r"\bHR: Current (\d+)")[0].dropna().astype(int)
    expected = latest["physicalexamtext"].astype(int)
    ties = heart_rate.groupby(["patientunitstayid", "physicalexamoffset"]).size()
    ties = set(ties[ties > 1].reset_index()["patientunitstayid"])
    assert set(said.index) == set(expected.index) & set(demo.stay_ids)
    certain = [stay for stay in said.index if stay not in ties]
    pd.testing.assert_series_equal(said[certain], expected[certain], check_names=False)

    history = published["pastHistory"].query("pasthistoryenteredoffset <= 1440")
    history = history[history["pasthistoryoffset"] <= 1440]
    for phrase in ("hypertension requiring treatment", "insulin dependent diabetes"):
        stays = history.loc[history["pasthistoryvalue"] == phrase, "patientunitstayid"]
        said_so = demo.X.index[demo.X["note"].str.contains(rf"[:;] {phrase}[.;]", na=False)]
        assert set(said_so) == set(stays) & set(demo.stay_ids)
    assert not demo.X["note"].str.contains("Print|Copies|View Options|Performed", na=False).any()


def test_words_do_not_depend_on_later_rows_of_the_real_tables(demo, published, tmp_path):
    folder = tmp_path / "early"
    folder.mkdir()
    for name, frame in published.items():
        times = [column for column in frame if column.endswith("offset") and name != "patient"]
        if name not in ("patient", "diagnosis", "apacheApsVar"):
            frame = frame[(frame[times] <= 1440).all(axis=1)]
        frame.to_csv(folder / f"{name}.csv", index=False)
    pd.testing.assert_frame_equal(load_eicu(folder).X, demo.X, check_exact=True)
