"""Nothing after the index time reaches a feature, in any format and for any label."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import (
    load_clif,
    load_eicu,
    load_mimic3,
    load_mimic4,
    load_omop,
    load_tables,
)

from .conftest import write_tables
from .formats import as_clif, as_eicu, as_mimic3, as_mimic4, as_omop, long_tables, with_icd9

# A tenth of the random tables' results of sodium are in furlongs.
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

HOURS = 36
OUTCOMES = ["mortality", "readmission_30d", "length_of_stay_3d"]
LABELS = {
    "groups": {"n_labels": None},
    "own": {"phenotypes": {"heart": {9: ["428"], 10: ["I50"]}}},
    "outcomes": {"phenotypes": None, "outcomes": OUTCOMES},
}


def as_is(tables):
    return tables


# Loader -> layout, then table -> columns: stay, times, and what may be changed at will.
FORMATS = {
    "tables": (
        lambda folder, **options: load_tables(
            *(folder / f"{name}.parquet" for name in ("labs", "notes", "diagnoses", "stays")),
            **options,
        ),
        as_is,
        {
            "labs": ("stay_id", ["time", "stored_time"], ["value", "name", "unit", "ref_low"]),
            "notes": ("stay_id", ["time", "stored_time"], ["text", "type"]),
        },
        ("stays", "stay_id", "start"),
    ),
    "mimic3": (
        load_mimic3,
        lambda tables: as_mimic3(with_icd9(tables)),
        {
            "labevents": ("hadm_id", ["charttime"], ["valuenum", "value", "itemid", "valueuom"]),
            "noteevents": ("hadm_id", ["charttime", "storetime"], ["text", "category"]),
        },
        ("admissions", "hadm_id", "admittime"),
    ),
    "mimic4": (
        load_mimic4,
        as_mimic4,
        {
            "labevents": (
                "hadm_id",
                ["charttime", "storetime"],
                ["valuenum", "value", "itemid", "valueuom", "ref_range_lower"],
            ),
            "radiology": ("hadm_id", ["charttime", "storetime"], ["text"]),
        },
        ("admissions", "hadm_id", "admittime"),
    ),
    "clif": (
        load_clif,
        as_clif,
        {
            "clif_labs": (
                "hospitalization_id",
                ["lab_collect_dttm", "lab_result_dttm"],
                ["lab_value_numeric", "lab_value", "lab_category", "reference_unit"],
            ),
        },
        ("clif_hospitalization", "hospitalization_id", "admission_dttm"),
    ),
    "omop": (
        load_omop,
        as_omop,
        {
            "measurement": (
                "visit_occurrence_id",
                ["measurement_datetime"],
                [
                    "value_as_number",
                    "measurement_concept_id",
                    "unit_concept_id",
                    "unit_source_value",
                    "range_low",
                ],
            ),
            "note": ("visit_occurrence_id", ["note_datetime"], ["note_text", "note_title"]),
        },
        ("visit_occurrence", "visit_occurrence_id", "visit_start_datetime"),
    ),
    "eicu": (
        load_eicu,
        as_eicu,
        {
            "lab": (
                "patientunitstayid",
                ["labresultoffset", "labresultrevisedoffset"],
                ["labresult", "labname", "labmeasurenamesystem"],
            ),
            "note": (
                "patientunitstayid",
                ["noteoffset", "noteenteredoffset"],
                ["notepath", "notevalue", "notetext"],
            ),
            "pastHistory": (
                "patientunitstayid",
                ["pasthistoryoffset", "pasthistoryenteredoffset"],
                ["pasthistorypath", "pasthistoryvalue", "pasthistoryvaluetext"],
            ),
        },
        # Its times are minutes from the start of the stay.
        None,
    ),
}


def with_changed_future(frames, events, stays):
    """Every event after the index time moved later and changed; and the number of these."""
    if stays is not None:
        table, key, start = stays
        starts = frames[table].set_index(key)[start]
    changed, n_changed = dict(frames), 0
    for name, (stay, times, contents) in events.items():
        frame = frames[name].copy()
        if stays is None:
            index_time = pd.Series(HOURS * 60, index=frame.index)
        else:
            index_time = frame[stay].map(starts) + pd.Timedelta(hours=HOURS)
        late = (frame[times].gt(index_time, axis=0)).any(axis=1).to_numpy(dtype=bool)
        n_changed += late.sum()
        for column in times:
            frame[column] = frame[column].mask(
                late & (frame[column] > index_time),
                frame[column] + (3 * 24 * 60 if stays is None else pd.Timedelta(days=3)),
            )
        for column in contents:
            rolled = frame.loc[late, column].to_numpy()
            if pd.api.types.is_float_dtype(frame[column]):
                rolled = rolled * 1000 + 1
            frame.loc[late, column] = np.roll(rolled, 1)
        for text in {"text", "note_text"}.intersection(contents):
            frame.loc[late, text] = "The patient died of what the labels say."
        changed[name] = frame
    return changed, n_changed


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Format -> folder of its tables, and of those with another future."""
    made = {}
    for name, (_, lay_out, events, stays) in FORMATS.items():
        frames = lay_out(long_tables(2))
        changed, n_changed = with_changed_future(frames, events, stays)
        assert n_changed > 100
        folder = tmp_path_factory.mktemp(name)
        made[name] = [
            write_tables(folder / part, tables, suffix=".parquet")
            for part, tables in (("before", frames), ("after", changed))
        ]
    return made


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", FORMATS)
def test_the_future_changes_no_feature(name, labels, folders):
    load = FORMATS[name][0]
    options = {
        "index_time": HOURS,
        "aggregate": ["last", "first", "mean", "min", "max", "slope", "count"],
        "min_coverage": 0.2,
        **LABELS[labels],
    }
    before, after = (load(folder, **options) for folder in folders[name])
    pd.testing.assert_frame_equal(before.X, after.X, check_exact=True)
    pd.testing.assert_frame_equal(before.y, after.y)
    assert (before.units, before.reference_ranges) == (after.units, after.reference_ranges)
    assert before.X[before.lab_columns].notna().any().any()


@pytest.mark.parametrize("name", FORMATS)
def test_what_decides_the_labels_changes_no_feature(name, write):
    load, lay_out, _, _ = FORMATS[name]
    tables = long_tables(3)
    options = {"index_time": 12, "phenotypes": None, "outcomes": ["mortality"]}
    before = load(write(lay_out(tables), suffix=".parquet"), **options)
    stays = tables["stays"]
    last = ~stays.sort_values("start")["patient_id"].duplicated(keep="last").sort_index()
    died = (1 - stays["died"]) * last
    other = {
        **tables,
        "stays": stays.assign(end=stays["end"] + pd.Timedelta(days=9), died=died),
        "diagnoses": tables["diagnoses"].assign(code="I10"),
    }
    after = load(write(lay_out(other), suffix=".parquet"), **options)
    both = before.X.index.intersection(after.X.index)
    assert len(both) > 20
    pd.testing.assert_frame_equal(
        before.X.loc[both], after.X.loc[both].reindex(columns=before.X.columns), check_exact=True
    )
    assert not before.y.loc[both].equals(after.y.loc[both])
