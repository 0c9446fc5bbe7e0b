"""The random long tables laid out as each published format, and what `load_tables` gets instead."""

import numpy as np
import pandas as pd

from .long_tables import make_tables

ICD9 = {"I50.9": "4280", "E11.9": "25000", "I10": "4019", "N18.3": "5853", "J44.9": "496"}
# The results of apacheApsVar
DAY_1 = (
    *("wbc", "temperature", "respiratoryrate", "sodium", "heartrate", "meanbp", "ph"),
    *("hematocrit", "creatinine", "albumin", "pao2", "pco2", "bun", "glucose", "bilirubin"),
    *("fio2", "urine"),
)
ITEMS = {"Sodium": 50983, "Glucose": 50931, "pH": 50820, "Lactate": 50813}


def long_tables(seed=0, **sizes):
    """Long tables with ids, ages and deaths as a published source can hold them."""
    tables = make_tables(seed, **sizes)
    stays, rng = tables["stays"], np.random.default_rng(seed)
    birth = pd.Timestamp("2060-06-01") + pd.to_timedelta(
        rng.integers(0, 20_000, len(stays)), unit="D"
    )
    stays["birth_date"] = pd.Series(birth).groupby(stays["patient_id"].to_numpy()).transform("min")
    # Nobody dies twice, nor comes back
    last = stays.sort_values("start").groupby("patient_id")["stay_id"].last()
    stays["died"] = (stays["stay_id"].isin(last) & stays["died"].eq(1)).astype(int)
    stays["sex"] = stays.groupby("patient_id")["sex"].transform("first")
    tables["stays"] = stays.drop(columns=["age", "hospital_id"])
    # Without its point this would be a code of ICD-9
    tables["diagnoses"]["code"] = tables["diagnoses"]["code"].replace({"31.1": "311"})
    notes = tables["notes"]
    notes["text"] = notes["text"] + ', "quoted"\nand broken '
    return tables


def with_icd9(tables):
    codes = tables["diagnoses"].assign(code=lambda d: d["code"].replace(ICD9))
    return {**tables, "diagnoses": codes}


def _deaths(stays):
    return stays["end"].where(stays["died"].eq(1))


def _admissions(stays):
    return pd.DataFrame(
        {
            "subject_id": stays["patient_id"],
            "hadm_id": stays["stay_id"],
            "admittime": stays["start"],
            "dischtime": stays["end"],
            "deathtime": _deaths(stays),
            "hospital_expire_flag": stays["died"],
        }
    )


def _items():
    return pd.DataFrame(
        {
            "itemid": [*ITEMS.values(), 51000, 51001],
            "label": [*ITEMS, "Twin", "Twin"],
            "fluid": "Blood",
            "category": ["Chemistry"] * 5 + ["Blood Gas"],
        }
    )


def _labevents(labs):
    named = labs[labs["name"].notna()]
    return pd.DataFrame(
        {
            "hadm_id": named["stay_id"],
            "itemid": named["name"].map(ITEMS),
            "charttime": named["time"],
            "storetime": named["stored_time"],
            "value": named["value"].map(lambda value: None if pd.isna(value) else str(value)),
            "valuenum": named["value"],
            "valueuom": named["unit"],
            "ref_range_lower": named["ref_low"],
            "ref_range_upper": named["ref_high"],
        }
    )


def as_mimic3(tables):
    stays, notes = tables["stays"], tables["notes"]
    labs = _labevents(tables["labs"])
    return {
        "admissions": _admissions(stays),
        "patients": pd.DataFrame(
            {
                "subject_id": stays["patient_id"],
                "gender": stays["sex"],
                "dob": stays["birth_date"],
            }
        ).drop_duplicates("subject_id"),
        "d_labitems": _items(),
        "labevents": labs.drop(columns=["storetime", "ref_range_lower", "ref_range_upper"]),
        "noteevents": pd.DataFrame(
            {
                "hadm_id": notes["stay_id"],
                "chartdate": notes["time"].dt.normalize(),
                "charttime": notes["time"],
                "storetime": notes["stored_time"],
                "category": notes["type"],
                "iserror": None,
                "text": notes["text"],
            }
        )[notes["time"].notna()],
        "diagnoses_icd": pd.DataFrame(
            {
                "hadm_id": tables["diagnoses"]["stay_id"],
                "icd9_code": tables["diagnoses"]["code"].str.replace(".", ""),
            }
        ),
    }


def as_mimic4(tables):
    stays, notes, codes = tables["stays"], tables["notes"], tables["diagnoses"]
    of_type = notes[notes["type"] == "Radiology"]
    return {
        "admissions": _admissions(stays),
        "patients": pd.DataFrame(
            {
                "subject_id": stays["patient_id"],
                "gender": stays["sex"],
                "anchor_age": 2150 - stays["birth_date"].dt.year,
                "anchor_year": 2150,
            }
        ).drop_duplicates("subject_id"),
        "d_labitems": _items(),
        "labevents": _labevents(tables["labs"]),
        "discharge": _note_table(notes[notes["type"] == "Discharge"]),
        "radiology": _note_table(of_type),
        "diagnoses_icd": pd.DataFrame(
            {
                "hadm_id": codes["stay_id"],
                "icd_code": codes["code"].str.replace(".", ""),
                "icd_version": np.where(codes["code"].isin(list(ICD9)), 10, 9),
            }
        ),
    }


def _note_table(notes):
    return pd.DataFrame(
        {
            "hadm_id": notes["stay_id"],
            "charttime": notes["time"],
            "storetime": notes["stored_time"],
            "text": notes["text"],
        }
    )


def expected_of_mimic3(tables):
    """Long tables that say the same: no stored time of labs, no nameless labs."""
    labs = tables["labs"].drop(columns=["stored_time", "ref_low", "ref_high"])
    return {**tables, "labs": labs}


def expected_of_mimic4(tables):
    notes, stays = tables["notes"], tables["stays"]
    # MIMIC-IV tells the year of birth alone
    age = (stays["start"].dt.year - stays["birth_date"].dt.year).astype(float)
    return {
        **tables,
        "notes": notes[notes["type"] == "Radiology"],
        "stays": stays.drop(columns="birth_date").assign(age=age),
    }


def _utc(times):
    return times.dt.tz_localize("UTC")


def as_clif(tables):
    stays, labs, codes = tables["stays"], tables["labs"], tables["diagnoses"]
    return {
        "clif_hospitalization": pd.DataFrame(
            {
                "patient_id": stays["patient_id"].astype(str),
                "hospitalization_id": stays["stay_id"].astype(str),
                "admission_dttm": _utc(stays["start"]),
                "discharge_dttm": _utc(stays["end"]),
                "age_at_admission": 50,
                "discharge_category": np.where(stays["died"].eq(1), "Expired", "Home"),
            }
        ),
        "clif_patient": pd.DataFrame(
            {
                "patient_id": stays["patient_id"].astype(str),
                "sex_category": stays["sex"],
                "death_dttm": _utc(_deaths(stays).groupby(stays["patient_id"]).transform("max")),
            }
        ).drop_duplicates("patient_id"),
        "clif_labs": pd.DataFrame(
            {
                "hospitalization_id": labs["stay_id"].astype("string"),
                "lab_category": labs["name"],
                "lab_value": labs["value"].map(lambda v: None if pd.isna(v) else str(v)),
                "lab_value_numeric": labs["value"],
                "reference_unit": labs["unit"],
                "lab_collect_dttm": _utc(labs["time"]),
                "lab_result_dttm": _utc(labs["stored_time"]),
            }
        ),
        "clif_hospital_diagnosis": pd.DataFrame(
            {
                "hospitalization_id": codes["stay_id"].astype(str),
                "diagnosis_code": codes["code"].str.replace(".", ""),
                "diagnosis_code_format": np.where(
                    codes["code"].isin(list(ICD9)), "ICD10CM", "ICD9CM"
                ),
            }
        ),
    }


def expected_of_clif(tables):
    labs = tables["labs"].drop(columns=["ref_low", "ref_high"])
    stays = tables["stays"].drop(columns="birth_date").assign(age=50.0)
    return {**tables, "labs": labs, "notes": None, "stays": stays}


EICU_MENUS = {"ECG": "notes/Progress Notes/Past History/Heart", "other": "notes/Comments"}


def as_eicu(tables):
    """Offsets from the start of the stay; all stays of a patient in one hospital stay."""
    stays, labs, notes, codes = (tables[n] for n in ("stays", "labs", "notes", "diagnoses"))
    starts = stays.set_index("stay_id")["start"]
    first = stays.groupby("patient_id")["start"].transform("min")

    def offset(events, column):
        since = events[column] - events["stay_id"].map(starts).fillna(pd.Timestamp("2130-01-01"))
        return (since / pd.Timedelta(minutes=1)).round().astype("Int64")

    of_heart = notes["type"] == "ECG"
    return {
        "patient": pd.DataFrame(
            {
                "patientunitstayid": stays["stay_id"],
                "uniquepid": stays["patient_id"].astype(str),
                "hospitalid": 1,
                "gender": stays["sex"],
                "age": _ages(stays).astype(int).astype(str),
                "ethnicity": "Other/Unknown",
                "apacheadmissiondx": "Sepsis",
                "unitdischargeoffset": (stays["end"] - stays["start"]) // pd.Timedelta(minutes=1),
                "unitdischargestatus": np.where(stays["died"].eq(1), "Expired", "Alive"),
                "patienthealthsystemstayid": stays["patient_id"],
                "hospitaladmitoffset": (first - stays["start"]) // pd.Timedelta(minutes=1),
                "hospitaldischargeyear": 2014,
            }
        ),
        "diagnosis": pd.DataFrame(
            {
                "patientunitstayid": codes["stay_id"],
                "icd9code": (codes["code"] + ", " + codes["code"]).where(codes["code"].notna()),
                **({"diagnosisoffset": offset(codes, "time")} if "time" in codes else {}),
            }
        ),
        "lab": pd.DataFrame(
            {
                "patientunitstayid": labs["stay_id"],
                "labresultoffset": offset(labs, "time"),
                "labname": labs["name"],
                "labresult": labs["value"],
                "labmeasurenamesystem": labs["unit"],
                "labresultrevisedoffset": offset(labs, "stored_time"),
            }
        ),
        "apacheApsVar": pd.DataFrame(
            {"patientunitstayid": stays["stay_id"], **dict.fromkeys(DAY_1, -1)}
        ),
        "pastHistory": _eicu_form("pasthistory", notes[of_heart], offset, "valuetext"),
        "note": _eicu_form("note", notes[~of_heart], offset, "text"),
        "physicalExam": _eicu_form("physicalexam", notes[:0], offset, "text"),
    }


def _ages(stays):
    return (stays["start"] - stays["birth_date"]).dt.days // 365.2425


def _eicu_form(prefix, notes, offset, typed):
    menu = EICU_MENUS["ECG" if prefix == "pasthistory" else "other"]
    return pd.DataFrame(
        {
            "patientunitstayid": notes["stay_id"],
            f"{prefix}offset": offset(notes, "time"),
            f"{prefix}enteredoffset": offset(notes, "stored_time"),
            f"{prefix}path": menu + "/" + notes["text"],
            f"{prefix}value": notes["text"],
            f"{prefix}{typed}": notes["text"],
        }
    )


def expected_of_eicu(tables):
    """Long tables that say the same."""
    labs, stays = tables["labs"].drop(columns=["ref_low", "ref_high"]), tables["stays"]
    return {
        **tables,
        "labs": labs.assign(name=labs["name"].replace({"pH": "ph"})),
        "stays": stays.drop(columns="birth_date").assign(age=_ages(stays)),
    }


CONCEPTS = {name: 3000000 + item for name, item in ITEMS.items()}
UNITS = {"mmol/L": 8753, "mg/dL": 8840}


def _concept_table(codes):
    rows = [(3099999, "Twin", "Measurement", "LOINC", "1-1"), (0, "None", "Unit", "None", "None")]
    rows += [(n, name, "Measurement", "LOINC", str(n)) for name, n in CONCEPTS.items()]
    rows += [(n, unit, "Unit", "UCUM", unit) for unit, n in UNITS.items()]
    for n, code in enumerate(codes):
        version = "ICD10CM" if code in ICD9 else "ICD9CM"
        rows.append((45000000 + n, "made", "Condition", version, code))
    names = ["concept_id", "concept_name", "domain_id", "vocabulary_id", "concept_code"]
    return pd.DataFrame(rows, columns=names)


def as_omop(tables):
    """OMOP CDM 5.4; units that have no concept stand in unit_source_value."""
    stays, labs, notes, codes = (tables[n] for n in ("stays", "labs", "notes", "diagnoses"))
    listed = sorted(codes["code"].dropna().unique())
    places = {code: 45000000 + n for n, code in enumerate(listed)}
    # Every second code has no concept, and its form tells the version
    known = np.arange(len(codes)) % 2 == 0
    dead = stays[stays["died"].eq(1)]
    return {
        "visit_occurrence": pd.DataFrame(
            {
                "visit_occurrence_id": stays["stay_id"],
                "person_id": stays["patient_id"],
                "visit_concept_id": 9201,
                "visit_start_date": stays["start"].dt.date,
                "visit_start_datetime": stays["start"],
                "visit_end_date": stays["end"].dt.date,
                "visit_end_datetime": stays["end"],
            }
        ),
        "person": pd.DataFrame(
            {
                "person_id": stays["patient_id"],
                "gender_concept_id": stays["sex"].map({"M": 8507, "F": 8532}),
                "year_of_birth": stays["birth_date"].dt.year,
                "month_of_birth": stays["birth_date"].dt.month,
                "day_of_birth": stays["birth_date"].dt.day,
            }
        ).drop_duplicates("person_id"),
        "death": pd.DataFrame(
            {
                "person_id": dead["patient_id"],
                "death_date": dead["end"].dt.date,
                "death_datetime": dead["end"],
            }
        ),
        "measurement": pd.DataFrame(
            {
                "visit_occurrence_id": labs["stay_id"],
                "measurement_concept_id": labs["name"].map(CONCEPTS).fillna(0).astype(int),
                "measurement_date": labs["time"].dt.date,
                "measurement_datetime": labs["time"],
                "value_as_number": labs["value"],
                "unit_concept_id": labs["unit"].map(UNITS).fillna(0).astype(int),
                "unit_source_value": labs["unit"],
                "range_low": labs["ref_low"],
                "range_high": labs["ref_high"],
            }
        ),
        "note": pd.DataFrame(
            {
                "visit_occurrence_id": notes["stay_id"],
                "note_date": notes["time"].dt.date,
                "note_datetime": notes["time"],
                "note_title": notes["type"],
                "note_text": notes["text"],
            }
        ),
        "condition_occurrence": pd.DataFrame(
            {
                "visit_occurrence_id": codes["stay_id"],
                "condition_source_concept_id": codes["code"]
                .map(places)
                .where(known)
                .fillna(0)
                .astype(int),
                "condition_source_value": codes["code"],
                **_condition_times(codes),
            }
        ),
        "concept": _concept_table(listed),
    }


def _condition_times(codes):
    if "time" not in codes:
        return {}
    return {
        "condition_start_date": codes["time"].dt.date,
        "condition_start_datetime": codes["time"],
    }


def expected_of_omop(tables):
    return {
        **tables,
        "labs": tables["labs"].drop(columns="stored_time"),
        "notes": tables["notes"].drop(columns="stored_time"),
    }


def meds_tables(seed=0):
    """Long tables whose events fall into their stays, one stay to a patient."""
    tables = long_tables(seed)
    stays = tables["stays"]
    tables["stays"] = stays.assign(patient_id=stays["stay_id"])
    ends = stays.set_index("stay_id")[["start", "end"]]
    for name in ("labs", "notes"):
        events = tables[name]
        events = events[events["stay_id"].isin(stays["stay_id"]) & events["time"].notna()]
        of = ends.reindex(events["stay_id"])
        inside = (events["time"].to_numpy() <= of["end"].to_numpy()) & (
            events["time"].to_numpy() >= of["start"].to_numpy() - np.timedelta64(24, "h")
        )
        tables[name] = events[inside].drop(columns="stored_time").astype({"stay_id": int})
    return tables


def as_meds(tables):
    """One table of events, and the codes of labs; every stay is of a subject of its own."""
    stays, labs, notes = tables["stays"], tables["labs"], tables["notes"]
    labs = labs[labs["name"].notna()]
    codes = tables["diagnoses"].dropna(subset=["stay_id", "code"])
    codes = codes[codes["stay_id"].isin(stays["stay_id"])]
    ends = stays.set_index("stay_id")["end"]
    version = np.where(codes["code"].isin(list(ICD9)), "10", "9")
    plain = codes["code"].str.replace(".", "")
    parts = [
        _events(stays["patient_id"], stays["start"], "HOSPITAL_ADMISSION//EW EMER."),
        _events(stays["patient_id"], stays["end"], "HOSPITAL_DISCHARGE//HOME"),
        _events(stays["patient_id"], _deaths(stays), "MEDS_DEATH").dropna(subset="time"),
        _events(stays["patient_id"], stays["birth_date"], "MEDS_BIRTH"),
        _events(stays["patient_id"], pd.NaT, "GENDER//" + stays["sex"]),
        _events(
            labs["stay_id"],
            labs["time"],
            "LAB//RESULT//"
            + labs["name"].map(ITEMS).astype(str)
            + "//"
            + labs["unit"].fillna("UNK"),
            numeric_value=labs["value"],
        ),
        _events(labs["stay_id"], labs["time"], "LAB//1//bpm", numeric_value=1.0),
        _events(
            notes["stay_id"], notes["time"], "NOTE//" + notes["type"], text_value=notes["text"]
        ),
        _events(
            codes["stay_id"],
            codes["time"] if "time" in codes else codes["stay_id"].map(ends),
            "DIAGNOSIS//ICD//" + version + "//" + plain,
        ),
    ]
    data = pd.concat(parts, ignore_index=True).astype(
        {"numeric_value": float, "time": "datetime64[us]"}
    )
    listed = [
        (f"LAB//RESULT//{n}//{unit}", name) for name, n in ITEMS.items() for unit in ("UNK", "x")
    ]
    listed.append(("LAB//RESULT//999//UNK", None))
    return {
        "data": data.sort_values(["subject_id", "time"], kind="stable", ignore_index=True),
        "codes": pd.DataFrame(listed, columns=["code", "description"]),
    }


def as_meds_of_patients(tables):
    """Subjects with several stays, which every event names."""
    of_stays = as_meds(
        {**tables, "stays": tables["stays"].assign(patient_id=tables["stays"]["stay_id"])}
    )
    data = of_stays["data"]
    patients = tables["stays"].set_index("stay_id")["patient_id"]
    data = data.assign(hadm_id=data["subject_id"], subject_id=data["subject_id"].map(patients))
    # Of a person there is one birth, and a sex without a time
    once = data["code"].str.startswith(("MEDS_BIRTH", "GENDER"))
    again = data[once].duplicated(["subject_id", "code"])
    data = data.drop(index=again.index[again])
    data["hadm_id"] = data["hadm_id"].where(~once)
    return {**of_stays, "data": data.sort_values(["subject_id", "time"], kind="stable")}


def _events(subject, time, code, **values):
    frame = pd.DataFrame({"subject_id": subject, "time": time, "code": code})
    return frame.assign(**{"numeric_value": np.nan, "text_value": None} | values)


def write_meds(folder, frames):
    """Write a MEDS data set in two shards; returns its folder."""
    for name in ("data/train", "data/held_out", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    data = frames["data"]
    held_out = data["subject_id"] % 2 == 0
    data[~held_out].to_parquet(folder / "data/train/0.parquet", index=False)
    data[held_out].to_parquet(folder / "data/held_out/0.parquet", index=False)
    frames["codes"].to_parquet(folder / "metadata/codes.parquet", index=False)
    return folder
