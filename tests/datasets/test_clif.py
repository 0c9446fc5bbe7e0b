import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_clif, load_tables, phenotypes

from .formats import as_clif, expected_of_clif, long_tables
from .test_long_tables import assert_same

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

ALL = {"min_coverage": 0.0, "n_labels": None}
# Finished stays too, so that every row of the published tables is compared
EVERY = ALL | {"finished_stays": "keep"}


@pytest.mark.parametrize(
    "options",
    [
        {"index_time": "48h", "outcomes": ["mortality", "readmission_30d"]},
        {"index_time": "discharge", "aggregate": ["first", "count"]},
        {"without_stored_time": "drop"},
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_cohort_is_that_of_the_same_long_tables(options, suffix, write):
    tables = long_tables()
    cohort = load_clif(write(as_clif(tables), suffix=suffix), **ALL | options)
    texts = {
        name: frame if frame is None else frame.astype({"stay_id": "string"})
        for name, frame in expected_of_clif(tables).items()
    }
    order = ("labs", "notes", "diagnoses", "stays")
    expected = load_tables(*(texts[name] for name in order), **ALL | options)
    assert_same(cohort, expected)
    assert cohort.units == expected.units


def test_a_missing_discharge_category_leaves_mortality_open(write):
    frames = as_clif(long_tables())
    expected = load_clif(write(frames), phenotypes=None, outcomes=["mortality"])
    frames["clif_hospitalization"].loc[:4, "discharge_category"] = "Missing"
    cohort = load_clif(write(frames), phenotypes=None, outcomes=["mortality"])
    unknown = set(frames["clif_hospitalization"]["hospitalization_id"][:5])
    assert set(cohort.stay_ids) == set(expected.stay_ids) - unknown
    assert cohort.report()["stays dropped: mortality not known"] > 0


def test_the_demo_is_what_plain_pandas_makes_of_it(shared_data):
    folder = shared_data / "clif_demo"
    cohort = load_clif(folder, **EVERY)
    stays, labs, codes = (
        pd.read_parquet(folder / f"clif_{name}.parquet")
        for name in ("hospitalization", "labs", "hospital_diagnosis")
    )
    labs = labs.merge(stays[["hospitalization_id", "admission_dttm"]], on="hospitalization_id")
    since = labs["lab_collect_dttm"] - labs["admission_dttm"]
    late = labs["lab_result_dttm"] > labs["admission_dttm"] + pd.Timedelta(days=1)
    day = pd.Timedelta(days=1)
    number = labs["lab_value_numeric"].fillna(pd.to_numeric(labs["lab_value"], errors="coerce"))
    used = labs.assign(value=number)[(since >= -day) & (since <= day) & ~late & number.notna()]
    used = used[used["hospitalization_id"].isin(codes["hospitalization_id"])]
    last = used.sort_values(["lab_collect_dttm", "lab_result_dttm", "value"])
    last = last.pivot_table(
        index="hospitalization_id", columns="lab_category", values="value", aggfunc="last"
    )
    assert cohort.report()["clif_labs rows kept"] == len(used)
    assert cohort.report()["clif_labs rows read"] == 51_433
    assert cohort.stay_ids.tolist() == last.index.tolist()
    assert cohort.lab_columns == last.columns.tolist()
    np.testing.assert_array_equal(cohort.X[cohort.lab_columns], last)
    # Of whole stays, all that have labs
    whole = load_clif(folder, index_time="discharge", lookback="3650 days", **EVERY)
    assert len(whole.stay_ids) == labs["hospitalization_id"].nunique() == 278
    version = codes["diagnosis_code_format"].map({"ICD9CM": 9, "ICD10CM": 10})
    labels = phenotypes.label_stays(
        codes["hospitalization_id"], codes["diagnosis_code"], cohort.stay_ids, version
    )
    np.testing.assert_array_equal(cohort.y, labels)
