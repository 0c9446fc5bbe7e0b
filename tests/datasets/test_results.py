"""Results as laboratories write them: limits, decimal signs, revisions and units, by hand."""

import math
import warnings

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_medfuse.datasets import load_eicu, load_tables

STAYS = pd.DataFrame(
    {"stay_id": [1, 2], "patient_id": [1, 2], "start": ["2024-05-01 08:00:00"] * 2}
)
CODES = pd.DataFrame({"stay_id": [1, 2], "code": ["I50.9"] * 2})
HOUR = "2024-05-01 {:02d}:00:00"


def load(rows, columns, **options):
    """A cohort of two stays; the second one has a result in every case."""
    labs = pd.DataFrame(rows, columns=["stay_id", *columns])
    labs["name"] = labs.get("name", "Lab")
    return load_tables(labs, None, CODES, STAYS, n_labels=1, min_coverage=0.0, **options)


def convert(value, unit, target, lab):
    """The value in another unit, None where the loader drops it for its unit."""
    rows = [(1, value, unit, HOUR.format(9), lab), (2, 1.0, None, HOUR.format(9), "other")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* unit cannot be converted", UserWarning)
        cohort = load(rows, ["value", "unit", "time", "name"], units={lab: target})
    return float(cohort.X.loc[1, lab]) if 1 in cohort.X.index else None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<0.01", 0.01),
        ("> 90", 90.0),
        ("≥ 500", 500.0),
        ("<= 5", 5.0),
        ("less than 5", 5.0),
        ("LESS THAN 0.3", 0.3),
        ("GREATER THAN 500", 500.0),
        ("greater than or equal to 60", 60.0),
        ("<0,5", 0.5),
        ("<0.2.", 0.2),
        ("<3*.", 3.0),
        ("12.3 (H)", 12.3),
        (">1000.0 ng/mL", 1000.0),
        ("&lt;0.1", 0.1),
    ],
)
def test_a_censored_result_counts_as_its_limit(text, value):
    rows = [(1, 0.7, None, HOUR.format(9)), (1, None, text, HOUR.format(19))]
    cohort = load([(*row, "ng/mL") for row in rows], ["value", "text_value", "time", "unit"])
    assert cohort.X.loc[1, "Lab"] == value
    # In the column of numbers too
    written = load([(1, text, HOUR.format(19), "ng/mL")], ["value", "time", "unit"])
    assert written.X.loc[1, "Lab"] == value


@pytest.mark.parametrize(
    "text", ["___", "1:40", "0-2", "1+", "12.05.2020", "3 of 4", "5 seen", "WBC <=0.1", "1,23,456"]
)
def test_other_texts_are_no_results(text):
    rows = [(1, "0.7", HOUR.format(9)), (1, text, HOUR.format(19))]
    cohort = load(rows, ["value", "time"])
    assert cohort.X.loc[1, "Lab"] == 0.7
    assert cohort.report()["labs rows dropped: without a number"] == 1


def test_the_unit_within_a_text_counts():
    rows = [(1, ">2 mg/mL", HOUR.format(19), "ng/mL"), (2, "5", HOUR.format(9), "ng/mL")]
    rows.append((2, "4", HOUR.format(8), "ng/mL"))
    assert load(rows, ["value", "time", "unit"]).X["Lab"].tolist() == [2e6, 5.0]


@pytest.mark.parametrize(
    ("others", "comma", "point"),
    [
        ("7,4", 1.2, 1200.0),
        ("7.4", 1200.0, 1.2),
        ("7", None, 1.2),
    ],
)
def test_the_decimal_sign_is_that_of_the_other_numbers(others, comma, point):
    for text, value in (("1,200", comma), ("1.200", point)):
        rows = [(1, text, HOUR.format(9)), (2, others, HOUR.format(9))]
        got = load(rows, ["value", "time"]).X["Lab"].get(1, math.nan)
        assert got == value or (value is None and math.isnan(got))


def test_revised_and_repeated_results_count_once():
    rows = [
        (1, 7.2, HOUR.format(9), HOUR.format(10)),
        (1, 7.3, HOUR.format(9), HOUR.format(12)),
        (1, 1.1, HOUR.format(13), HOUR.format(14)),
        (1, 1.1, HOUR.format(13), HOUR.format(14)),
    ]
    cohort = load(rows, ["value", "time", "stored_time"], aggregate=["mean", "min", "max", "count"])
    # 7.3 took the place of 7.2, and 1.1 was sent twice: (7.3 + 1.1) / 2
    assert cohort.X.loc[1, ["Lab: mean", "Lab: min", "Lab: max", "Lab: count"]].tolist() == [
        pytest.approx(4.2),
        1.1,
        7.3,
        2.0,
    ]
    assert cohort.report()["labs rows dropped: repeated, or revised later"] == 2


def test_a_text_of_eicu_is_in_the_unit_of_its_interface(tables, write):
    results = tables["lab"].iloc[:0].reindex(range(2))
    tables["lab"] = results.assign(
        patientunitstayid=1,
        labname="ionized calcium",
        labresultoffset=[10, 20],
        labresultrevisedoffset=[11, 21],
        labresult=[4.4, None],
        labresulttext=["1.1", "<0.5"],
        labmeasurenamesystem="mg/dL",
        labmeasurenameinterface="mmol/L",
    )
    X = load_eicu(write(tables), n_labels=None, min_coverage=0.0, aggregate=["first", "last"]).X
    # 0.5 mmol/L of calcium are 0.5 * 40.078 / 10 mg/dL
    calcium = X.loc[1, ["ionized calcium: first", "ionized calcium: last"]]
    assert calcium.tolist() == pytest.approx([4.4, 2.0039])


def test_results_without_a_unit_are_in_the_usual_one():
    rows = [(1, 1.0, "mg/dL"), (1, 1.0, "mg/dL"), (2, 1.2, None)]
    rows = [(*row, HOUR.format(9 + i), "serum_creatinine") for i, row in enumerate(rows)]
    cohort = load(rows, ["value", "unit", "time", "name"], units={"serum_creatinine": "umol/L"})
    # 1 mg/dL is 10 / 113.12 mmol/L, 88.4017 umol/L; 1.2 mg/dL is 106.082 umol/L
    assert cohort.X["serum_creatinine"].tolist() == pytest.approx([88.4017, 106.082], rel=1e-5)


def test_results_lost_for_their_unit_warn_once():
    rows = [(1, 1.0, "mg/dL"), (1, 1.0, "mg/dL"), (2, 1.2, "furlong")]
    rows = [(*row, HOUR.format(9 + i)) for i, row in enumerate(rows)]
    with pytest.warns(UserWarning, match=r"1 results of 1 labs .* unit cannot .* Lab \(1\)") as got:
        load(rows, ["value", "unit", "time"])
    assert len(got) == 1


SPELLINGS = """
g/dL: gm/dL g% G/DL gram_per_deciliter g/100mL
mg/dL: mg% MG/DL milligram_per_deciliter milligrams/dL
K/uL: 10*3/uL 10^9/L thou/mm3 x10E3/uL Thousand/uL x10(3)/mcL 10³/µL th/mm3 K/CMM Gpt/l Tsd/µl /nL
M/uL: Million/uL 10*12/L T/L x10(6)/mcL MIL/CMM Mio/µl
U/L: [U]/L [iU]/L [IU]/L Int_unit/L Units/L unit_per_liter IU/L mU/mL
mm[Hg]: mm_Hg mmHg MMHG mm(hg) torr
s: sec sec. seconds second(s)
fL: um^3 U3 femtoliter cubic_micron
mEq/L: meq/L MEQ/L mval/l milliequivalent_per_liter
umol/L: µmol/L μmol/L mcmol/L UMOL/L micromole_per_liter µM
mm/h: mm/hr mm/1h MM/hr.
mL/min/{1.73_m2}: mL/min/1.73m2 mL/min/1.73_m² mL/min/1.73_sq_m
ng/mL{FEU}: ng/mL_FEU ug/L_(FEU) FEU_ng/mL
"""


@pytest.mark.parametrize("line", SPELLINGS.strip().splitlines())
def test_spellings_of_one_unit(line):
    unit, _, others = line.partition(": ")
    for other in others.split():
        assert convert(7.5, other.replace("_", " "), unit, "x") == 7.5, other


@pytest.mark.parametrize(
    ("lab", "unit", "target", "factor"),
    [
        # Grams per mole, by hand: creatinine 113.12, glucose 180.156, calcium 40.078, two nitrogens
        # of urea 28.014; mmol/L times g/mol is mg/L, a tenth of it mg/dL
        *(
            (name, "umol/L", "mg/dL", 0.011312)
            for name in ("serum_creatinine", "Kreatinin", "2160-0", "Cr", "SerumCreatinine")
        ),
        ("Creatinine [Mass/volume] in Serum or Plasma", "µmol/L", "mg/dL", 0.011312),
        ("Glu", "mmol/L", "mg/dL", 18.0156),
        ("Glucose (mg/dL)", "mmol/L", "mg/dL", 18.0156),
        ("BUN", "mmol/L", "mg/dL", 2.8014),
        ("Urea nitrogen", "mmol/L", "mg/dL", 2.8014),
        ("HCO3", "mEq/L", "mmol/L", 1.0),
        ("Na", "mEq/L", "mmol/L", 1.0),
        ("Ca", "mEq/L", "mg/dL", 2.0039),
        ("Hgb", "mmol/L", "g/dL", 1.6114),
        ("WBC", "G/L", "K/uL", 1.0),
        ("ALT", "ukat/L", "U/L", 60.0),
        ("pO2", "kPa", "mm[Hg]", 7.500617),
        ("Osmolality", "mmol/kg", "mOsm/kg", 1.0),
        ("HbA1c", "mmol/mol", "%", 0.09148),
        ("Body temperature", "[degF]", "Cel", 5 / 9),
    ],
)
def test_conversion_by_analyte(lab, unit, target, factor):
    at_0, at_1 = (convert(value, unit, target, lab) for value in (0.0, 1.0))
    assert at_1 - at_0 == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize(
    ("lab", "unit", "target"),
    [
        ("D-dimer", "ng/mL{DDU}", "ng/mL{FEU}"),
        ("D-dimer", "ng/mL", "ng/mL{FEU}"),
        ("GFR", "mL/min", "mL/min/{1.73_m2}"),
        ("Lactate dehydrogenase", "mmol/L", "mg/dL"),
        ("BUN/Creatinine", "mmol/L", "mg/dL"),
        ("PT", "%", "ratio"),
        ("Hemoglobin", "G/L", "K/uL"),
    ],
)
def test_what_cannot_be_converted(lab, unit, target):
    assert convert(1.0, unit, target, lab) is None


MASSES = st.sampled_from(["g/dL", "mg/dL", "ug/L", "ng/mL", "g/L"])
AMOUNTS = st.sampled_from(["mol/L", "mmol/L", "umol/L", "nmol/mL"])
FEW = settings(max_examples=15, deadline=None)


@FEW
@given(one=MASSES | AMOUNTS, other=MASSES | AMOUNTS, value=st.floats(1e-3, 1e6))
def test_units_round_trip(one, other, value):
    there = convert(value, one, other, "glucose")
    assert convert(there, other, one, "glucose") == pytest.approx(value, rel=1e-9)


@FEW
@given(mass=MASSES, amount=AMOUNTS, name=st.text("qxzjw", min_size=1, max_size=12))
def test_mass_and_amount_meet_by_a_known_analyte_alone(mass, amount, name):
    assert convert(1.0, mass, amount, name) is None
    assert convert(1.0, amount, mass, name) is None
