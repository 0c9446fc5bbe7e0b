"""Files as they are published, against the same cohort by plain pandas."""

import shutil

import numpy as np
import pandas as pd

from sklearn_medfuse.datasets import load_mimic3, load_tables, phenotypes

# Finished stays too, so that every row of the published tables is compared
ALL = {"min_coverage": 0.0, "n_labels": None, "finished_stays": "keep"}
DAY = pd.Timedelta(days=1)


def century(times):
    """Times such as 10/23/64 21:09 in the years from 2100 on."""
    parts = times.str.extract(r"(\d+)/(\d+)/(\d+) (\d+):(\d+)").astype(float)
    known = parts.notna().all(axis=1)
    parts = parts[known].astype(int).set_axis(["month", "day", "year", "hour", "minute"], axis=1)
    return pd.to_datetime(parts.assign(year=parts["year"] + 2100)).reindex(times.index)


def made_events(admissions, items, rng):
    """Rows of LABEVENTS and NOTEEVENTS in the published columns."""
    admitted = century(admissions["ADMITTIME"])
    which = rng.integers(0, len(admissions), 4000)
    charted = admitted.to_numpy()[which] + pd.to_timedelta(rng.integers(-3000, 5000, 4000), "min")
    labs = pd.DataFrame(
        {
            "ROW_ID": range(4000),
            "SUBJECT_ID": admissions["SUBJECT_ID"].to_numpy()[which],
            "HADM_ID": admissions["HADM_ID"].to_numpy()[which],
            "ITEMID": rng.choice(items, 4000),
            "CHARTTIME": charted.strftime("%Y-%m-%d %H:%M:%S"),
            "VALUE": "made",
            "VALUENUM": rng.normal(10, 2, 4000).round(2),
            "VALUEUOM": "mg/dL",
            "FLAG": None,
        }
    )
    labs["HADM_ID"] = labs["HADM_ID"].astype("Int64").mask(rng.random(4000) < 0.2)
    labs.loc[rng.random(4000) < 0.1, "VALUENUM"] = np.nan
    notes = labs.iloc[:500].drop(columns=["ITEMID", "VALUE", "VALUENUM", "VALUEUOM", "FLAG"])
    stored = charted[:500] + pd.to_timedelta(rng.integers(0, 900, 500), "min")
    notes = notes.assign(
        CHARTDATE=charted[:500].strftime("%Y-%m-%d"),
        STORETIME=stored.strftime("%Y-%m-%d %H:%M:%S"),
        CATEGORY="Nursing",
        DESCRIPTION="Report",
        CGID=1,
        ISERROR=None,
        TEXT=[f'Made note {i}, with a "quote",\nand a second line' for i in range(500)],
    )
    return labs, notes


def test_mimic3_demo_with_made_events(shared_data, tmp_path):
    folder = tmp_path / "mimic3"
    shutil.copytree(shared_data / "mimic3_demo", folder, copy_function=shutil.copyfile)
    folder.chmod(0o700)
    admissions = pd.read_csv(folder / "ADMISSIONS.csv")
    items = pd.read_csv(folder / "D_LABITEMS.csv").set_index("ITEMID")["LABEL"]
    few = items[~items.duplicated(keep=False)].index[:12]
    labs, notes = made_events(admissions, few, np.random.default_rng(0))
    labs.to_csv(folder / "LABEVENTS.csv.gz", index=False)
    (folder / "NOTEEVENTS.csv").unlink()
    notes.to_csv(folder / "NOTEEVENTS.csv.gz", index=False)

    cohort = load_mimic3(folder, **ALL)
    admitted = pd.Series(century(admissions["ADMITTIME"]).to_numpy(), admissions["HADM_ID"])
    for events in (labs, notes):
        events["time"] = pd.to_datetime(events["CHARTTIME"])
        events["start"] = events["HADM_ID"].map(admitted)
    used = labs[labs["VALUENUM"].notna() & labs["HADM_ID"].notna()]
    used = used[(used["time"] - used["start"]).between(-DAY, DAY)]
    seen = notes[(notes["time"] <= notes["start"] + DAY) & notes["HADM_ID"].notna()]
    seen = seen[pd.to_datetime(seen["STORETIME"]) <= seen["start"] + DAY]
    report = cohort.report()
    assert report["stays read"] == 129
    assert report["labevents rows kept"] == len(used)
    assert report["noteevents rows kept"] == len(seen)
    last = used.assign(lab=used["ITEMID"].map(items)).sort_values(["time", "VALUENUM"])
    last = last.pivot_table(index="HADM_ID", columns="lab", values="VALUENUM", aggfunc="last")
    expected = last.reindex(index=cohort.stay_ids, columns=cohort.lab_columns)
    np.testing.assert_array_equal(cohort.X[cohort.lab_columns], expected)
    assert set(cohort.stay_ids) == set(last.index) | set(seen["HADM_ID"])
    texts = seen.sort_values("time").groupby("HADM_ID")["TEXT"].agg("\n\n".join)
    assert cohort.X["note"].dropna().to_dict() == texts.to_dict()

    codes = pd.read_csv(folder / "DIAGNOSES_ICD.csv", dtype={"ICD9_CODE": str})
    labels = phenotypes.label_stays(codes["HADM_ID"], codes["ICD9_CODE"], cohort.stay_ids, 9)
    np.testing.assert_array_equal(cohort.y, labels)
    # Patients born in the 19th century of the shifted calendar are those older than 89
    born = pd.read_csv(folder / "PATIENTS.csv").set_index("SUBJECT_ID")["DOB"].str.startswith("18")
    old = cohort.subgroups["age"].eq(90)
    assert (cohort.groups.map(born) <= old).all()
    assert cohort.subgroups["age"].between(15, 90).all()


def test_hospital_simulation(shared_data):
    tables = {
        name: pd.read_parquet(shared_data / "hospital_sim" / f"{name}.parquet")
        for name in ("encounters", "lab_results", "notes", "diagnoses")
    }
    cohort = load_tables(
        *(
            shared_data / "hospital_sim" / f"{name}.parquet"
            for name in ("lab_results", "notes", "diagnoses", "encounters")
        ),
        columns={
            "stays": {"stay_id": "encounter_id"},
            "labs": {"stay": "encounter_id"},
            "notes": {
                "stay": "encounter_id",
                "type": "type_name",
                "text": "text_without_diagnoses",
            },
            "diagnoses": {"stay": "encounter_id"},
        },
        icd_version=10,
        **ALL,
    )
    codes, stays = tables["diagnoses"], tables["encounters"]
    stays = stays[stays["encounter_id"].isin(codes["encounter_id"])]
    start = pd.to_datetime(stays.set_index("encounter_id")["start"])
    labs = tables["lab_results"]
    since = pd.to_datetime(labs["time"], format="ISO8601") - labs["encounter_id"].map(start)
    value = labs["value"].fillna(pd.to_numeric(labs["text_value"].astype(object), errors="coerce"))
    used = labs[since.between(-DAY, DAY) & value.notna()]
    notes = tables["notes"]
    since = pd.to_datetime(notes["time"], format="ISO8601") - notes["encounter_id"].map(start)
    seen = notes[(since <= DAY) & notes["text_without_diagnoses"].fillna("").str.strip().ne("")]
    report = cohort.report()
    assert report["stays read"] == 5603
    assert report["labs rows kept"] == len(used)
    assert report["notes rows kept"] == len(seen)
    assert set(cohort.stay_ids) == set(used["encounter_id"]) | set(seen["encounter_id"])
    assert sorted(cohort.lab_columns) == sorted(used["name"].unique())
    last = used.assign(time=pd.to_datetime(used["time"], format="ISO8601")).sort_values(
        ["time", "value"]
    )
    last = last.pivot_table(index="encounter_id", columns="name", values="value", aggfunc="last")
    expected = last.reindex(index=cohort.stay_ids, columns=cohort.lab_columns)
    np.testing.assert_allclose(cohort.X[cohort.lab_columns], expected)
    labels = phenotypes.label_stays(codes["encounter_id"], codes["code"], cohort.stay_ids, 10)
    np.testing.assert_array_equal(cohort.y, labels)
