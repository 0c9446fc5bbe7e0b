from pathlib import Path

import numpy as np
import pandas as pd
import pycomorb
import pytest

from sklearn_medfuse.datasets.phenotypes import (
    ELIXHAUSER,
    guess_icd_version,
    label_stays,
    map_codes,
)

CODES = pd.read_csv(Path(__file__).parent / "data" / "icd_codes.csv", dtype={"code": str})

# Where pycomorb departs from the paper, and why ours does not follow
PEER_EXCEPTIONS = {
    # A procedure code (temporary tracheostomy) among eICU's diagnosis codes. pycomorb removes the
    # point and reads 311, depressive disorder
    "31.1": "depression",
}


def peer_map(codes, version):
    """What pycomorb says of each code, under our names."""
    # icd_version is passed for all codes at once: as a column, pycomorb takes every label but
    # exactly "ICD-9" for ICD-10
    frame = pd.DataFrame({"id": np.arange(len(codes)), "code": list(codes)})
    result = pycomorb.comorbidity(
        "elixhauser",
        frame,
        icd_version=f"icd{version}",
        implementation="quan",
        return_categories=True,
    )
    result = result.set_index("id").sort_index().drop(columns="Elixhauser Comorbidity Index")
    names = [name.lower().replace(" ", "_").replace("/", "_") for name in result]
    return result.set_axis(names, axis=1).astype(bool)


def assert_same_groups(ours, peer, codes):
    assert set(ours) == set(peer)
    differs = (ours.to_numpy() != peer[ours.columns].to_numpy()).any(axis=1)
    assert [code for code, wrong in zip(codes, differs, strict=True) if wrong] == []


@pytest.mark.parametrize("source", ["eicu_demo_dev", "clif_demo", "mimic3_demo", "hospital_sim"])
@pytest.mark.parametrize("version", [9, 10])
def test_agrees_with_pycomorb_on_every_code_of_the_data(source, version):
    codes = CODES.loc[(CODES["source"] == source) & (CODES["version"] == version), "code"]
    if codes.empty:
        assert (source, version) in {("mimic3_demo", 10), ("hospital_sim", 9)}
        return
    assert_same_groups(map_codes(codes, version), peer_map(codes, version), codes)


def test_agrees_with_pycomorb_on_every_possible_code_of_four_characters():
    codes = {
        9: [f"{number:0{width}d}" for width in (3, 4) for number in range(10**width)]
        + [f"V{number:0{width}d}" for width in (2, 3) for number in range(10**width)],
        10: [
            f"{letter}{number:0{width}d}"
            for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
            for width in (2, 3)
            for number in range(10**width)
        ],
    }
    for version, all_codes in codes.items():
        assert_same_groups(map_codes(all_codes, version), peer_map(all_codes, version), all_codes)


def test_exceptions_to_pycomorb_are_still_exceptions():
    unreadable = CODES.loc[CODES["version"] == 0, "code"]
    assert set(unreadable) == set(PEER_EXCEPTIONS)
    for code, group in PEER_EXCEPTIONS.items():
        assert peer_map([code], 9)[group].item()
        assert not map_codes([code], 9).any(axis=None)
        assert not map_codes([code]).any(axis=None)


def test_the_shipped_codes_are_all_codes_of_the_data(shared_data):
    eicu = pd.read_csv(shared_data / "eicu_demo_dev" / "diagnosis.csv.gz", dtype=str)
    clif = pd.read_parquet(shared_data / "clif_demo" / "clif_hospital_diagnosis.parquet")
    mimic = pd.read_csv(shared_data / "mimic3_demo" / "DIAGNOSES_ICD.csv", dtype=str)
    simulated = pd.read_parquet(shared_data / "hospital_sim" / "diagnoses.parquet")
    expected = {
        ("eicu_demo_dev", code.strip())
        for cell in eicu["icd9code"].dropna()
        for code in cell.split(",")
    }
    expected |= {("clif_demo", code) for code in clif["diagnosis_code"].dropna()}
    expected |= {("mimic3_demo", code) for code in mimic["ICD9_CODE"].dropna()}
    expected |= {("hospital_sim", code) for code in simulated["code"].dropna()}
    assert set(zip(CODES["source"], CODES["code"], strict=True)) == expected


def test_thirty_one_groups_in_the_order_of_the_paper():
    names = list(ELIXHAUSER)
    assert len(names) == len(set(names)) == 31
    assert names[0] == "congestive_heart_failure"
    assert names[-1] == "depression"
    assert ELIXHAUSER["diabetes_complicated"][9] == ("2504", "2505", "2506", "2507", "2508", "2509")
    assert all(groups[version] for groups in ELIXHAUSER.values() for version in (9, 10))


def test_point_case_and_white_space_do_not_matter():
    forms = ["I50.9", "I509", "i50.9", " i50.9 ", "\tI50.9\n", "I 50.9"]
    table = map_codes(forms, 10)
    assert table["congestive_heart_failure"].all()
    assert (table.sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("code", "version", "groups"),
    [
        ("4280", 9, ["congestive_heart_failure"]),
        ("42", 9, []),
        ("404", 9, ["hypertension_complicated"]),
        (
            "404.93",
            9,
            ["congestive_heart_failure", "hypertension_complicated", "renal_failure"],
        ),
        ("425.5", 9, ["congestive_heart_failure", "alcohol_abuse"]),
        ("V45.11", 9, ["renal_failure"]),
        ("173.9", 9, []),
        ("E87.1", 10, ["fluid_and_electrolyte_disorders"]),
        ("E87.1", 9, []),
        ("C59", 10, []),
        ("C44.9", 10, []),
        ("E11.65", 10, ["diabetes_complicated"]),
        ("F20.4", 10, ["psychoses", "depression"]),
    ],
)
def test_known_codes(code, version, groups):
    row = map_codes([code], version).iloc[0]
    expected = [name for name in ELIXHAUSER if name in groups]
    assert list(row.index[row]) == [*expected]


def test_no_code_is_in_no_group():
    assert not map_codes(pd.Series([None, np.nan, "", "  ", "?", "XYZ"])).any(axis=None)
    assert map_codes([]).shape == (0, 31)
    assert map_codes(pd.Series([], dtype=str)).shape == (0, 31)


def test_rows_follow_the_input():
    codes = pd.Series(["I10", "428.0", "I10", "nonsense"], index=[5, 3, 9, 1])
    table = map_codes(codes)
    assert table.index.tolist() == [5, 3, 9, 1]
    shuffled = map_codes(codes.iloc[::-1])
    pd.testing.assert_frame_equal(shuffled, table.iloc[::-1])


def test_one_code_under_both_versions():
    table = map_codes(["E87.1", "E87.1"], [9, 10])
    assert table["fluid_and_electrolyte_disorders"].tolist() == [False, True]


def test_version_by_form():
    forms = {
        9: ["428.0", "4280", "0389", "V45.01", "V4501", "E879.8", "E950", "E9508", "311"],
        10: ["I50.9", "i509", "E87.1", "E871", "Z00", "U07.1", "C7A.00", "S72001A", "V43.52XA"],
        0: ["31.1", "4", "", "I", "428.0, I50.9", None],
    }
    for version, codes in forms.items():
        assert guess_icd_version(codes).tolist() == [version] * len(codes)


def test_auto_is_right_on_codes_with_points_and_ambiguous_only_below_e900():
    dotted = CODES[CODES["code"].str.contains(".", regex=False)]
    assert (guess_icd_version(dotted["code"]) == dotted["version"]).all()
    wrong = CODES[guess_icd_version(CODES["code"]) != CODES["version"]]
    assert wrong["code"].str.fullmatch(r"E8\d{2,3}").all()
    assert (wrong["version"] == 9).all()


def test_numbers_are_refused_without_being_shown():
    with pytest.raises(TypeError, match="position 1 is a int") as error:
        map_codes(pd.Series(["I10", 98765], dtype=object))
    assert "98765" not in str(error.value)


@pytest.mark.parametrize("version", ["ICD-9", "9", 11, None])
def test_unknown_versions_are_refused(version):
    with pytest.raises(ValueError, match="icd_version must be"):
        map_codes(["I10"], version)


def test_unknown_versions_per_code_are_counted_not_shown():
    with pytest.raises(ValueError, match="1 of its 2 values") as error:
        map_codes(["I10", "I10"], [10, "secret"])
    assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match="shape"):
        map_codes(["I10", "I10"], [10])


def test_labels_per_stay():
    labels = label_stays([1, 1, 2, 9], ["401.9", "I10", "I50.9", "I50.9"], [2, 3, 1])
    assert labels.index.tolist() == [2, 3, 1]
    assert labels["hypertension_uncomplicated"].tolist() == [0, 0, 1]
    assert labels["congestive_heart_failure"].tolist() == [1, 0, 0]
    assert {dtype.kind for dtype in labels.dtypes} == {"i"}
