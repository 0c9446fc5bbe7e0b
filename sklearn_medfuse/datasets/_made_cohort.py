"""Synthetic stays with labs, notes and labels whose shared and specific factors are known."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from ._build.cohort_builder import read_description
from ._cohort import Cohort

# Name, unit, usual value, spread (of the logarithm if skewed), skewed, normal range. Labs of one
# panel stand together and are ordered together.
_LABS = (
    ("sodium", "mmol/L", 139.0, 4.0, False, (135.0, 145.0)),
    ("potassium", "mmol/L", 4.1, 0.5, False, (3.5, 5.1)),
    ("chloride", "mmol/L", 104.0, 4.5, False, (98.0, 107.0)),
    ("bicarbonate", "mmol/L", 24.0, 4.0, False, (22.0, 29.0)),
    ("urea nitrogen", "mg/dL", 18.0, 0.55, True, (7.0, 20.0)),
    ("creatinine", "mg/dL", 1.0, 0.5, True, (0.6, 1.2)),
    ("glucose", "mg/dL", 125.0, 0.3, True, (70.0, 99.0)),
    ("calcium", "mg/dL", 8.8, 0.6, False, (8.5, 10.2)),
    ("hemoglobin", "g/dL", 11.5, 2.0, False, (12.0, 17.0)),
    ("leukocytes", "K/uL", 9.5, 0.45, True, (4.0, 11.0)),
    ("platelets", "K/uL", 215.0, 0.4, True, (150.0, 400.0)),
    ("neutrophils", "%", 74.0, 10.0, False, (40.0, 70.0)),
    ("lymphocytes", "%", 16.0, 0.5, True, (20.0, 40.0)),
    ("alanine aminotransferase", "U/L", 28.0, 0.7, True, (7.0, 55.0)),
    ("aspartate aminotransferase", "U/L", 32.0, 0.7, True, (8.0, 48.0)),
    ("alkaline phosphatase", "U/L", 85.0, 0.4, True, (40.0, 129.0)),
    ("bilirubin", "mg/dL", 0.7, 0.6, True, (0.1, 1.2)),
    ("albumin", "g/dL", 3.3, 0.6, False, (3.5, 5.0)),
    ("INR", "", 1.2, 0.25, True, (0.9, 1.1)),
    ("partial thromboplastin time", "s", 32.0, 0.25, True, (25.0, 35.0)),
    ("lactate", "mmol/L", 1.6, 0.5, True, (0.5, 2.0)),
    ("pH", "", 7.38, 0.07, False, (7.35, 7.45)),
    ("C-reactive protein", "mg/L", 22.0, 1.1, True, (0.0, 5.0)),
    ("troponin T", "ng/mL", 0.02, 1.0, True, (0.0, 0.01)),
)
_PANELS = (8, 5, 5, 2, 2, 1, 1)
# Logit of the probability that a panel is ordered for a patient of average severity
_ORDERED = (3.0, 2.7, 0.2, 0.6, -0.6, -0.9, -0.8)
FINDINGS = (
    ("shortness of breath", "crackles at both bases", "swelling of the legs"),
    ("fever and chills", "a productive cough", "consolidation on the chest film"),
    ("chest pain on exertion", "ST depression on the ECG", "a history of bypass surgery"),
    ("confusion since yesterday", "weakness of the left arm", "slurred speech"),
    ("abdominal pain", "yellow sclerae", "ascites"),
    ("low mood", "poor sleep for weeks", "loss of interest"),
)
FILLER = (
    "Vital signs reviewed.",
    "Medications were reconciled with the family.",
    "Plan discussed with the team on rounds.",
    "Lines and drains in place.",
    "Tolerating diet.",
    "Will continue current management.",
    "Skin intact.",
    "Code status confirmed.",
)
_N_FACTORS = 2
_PARTS = ("shared", "labs", "notes")


@validate_params(
    {
        "n_stays": [Interval(Integral, 2, None, closed="left")],
        "n_labels": [Interval(Integral, 1, None, closed="left")],
        "n_hospitals": [Interval(Integral, 1, None, closed="left")],
        "share_without_labs": [Interval(Real, 0, 1, closed="left")],
        "share_without_notes": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_ehr_cohort(
    n_stays=1000,
    *,
    n_labels=5,
    n_hospitals=10,
    share_without_labs=0.03,
    share_without_notes=0.05,
    random_state=None,
):
    """Make synthetic stays whose labs, notes and labels come from known factors.

    Each stay has six independent Gaussian factors; a patient's stays share half of their variance.
    Two factors act on labs and notes (`shared`), two on labs alone, two on notes alone. Each lab is
    a mixture of the shared and the labs' factors, a shift of the hospital and noise, on its
    clinical scale; half of the labs are log-normal. Panels of labs are ordered together, rarer ones
    more often for severely ill patients, and single results are lost at random. A note names
    findings of high factors, negates those of low ones, omits others, and has filler and copied
    sentences. The logit of each label is a sum of one shared, one labs' and one notes' factor.

    Parameters
    ----------
    n_stays : int, default=1000
        Number of stays, from about three quarters as many patients.
    n_labels : int, default=5
        Number of labels; their prevalence falls from about 0.35 to 0.1.
    n_hospitals : int, default=10
        Number of hospitals.
    share_without_labs : float, default=0.03
        Share of stays without any lab.
    share_without_notes : float, default=0.05
        Share of stays without a note. No stay lacks both.
    random_state : int, RandomState instance or None, default=None
        Seed of all random draws.

    Returns
    -------
    Cohort
        The stays, with 24 labs, age and sex (which say nothing about the labels), and one more
        field, `factors`: a DataFrame of shape (n_stays, 6) with the columns "shared 0" to
        "notes 1".

    See Also
    --------
    load_eicu_demo : Real stays bundled with the package.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> cohort = make_ehr_cohort(200, random_state=0)
    >>> cohort.X.shape, cohort.y.shape, cohort.factors.shape
    ((200, 27), (200, 5), (200, 6))
    """
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31))
    patient = np.sort(rng.integers(0, max(2, (3 * n_stays) // 4), n_stays))
    hospital = rng.integers(0, n_hospitals, patient.max() + 1)[patient]
    of_patient = rng.normal(size=(patient.max() + 1, len(_PARTS) * _N_FACTORS))
    of_stay = rng.normal(size=(n_stays, len(_PARTS) * _N_FACTORS))
    factors = np.sqrt(0.5) * (of_patient[patient] + of_stay)
    shared, of_labs, of_notes = np.split(factors, len(_PARTS), axis=1)

    fate = rng.random(n_stays)
    labs = _make_labs(rng, np.hstack([shared, of_labs]), hospital, n_hospitals)
    labs[fate < share_without_labs] = np.nan
    notes = _make_notes(rng, np.hstack([shared, of_notes]))
    notes[fate >= 1 - share_without_notes] = None

    index = pd.Index(np.arange(n_stays) + 1, name="stay_id")
    names = [lab[0] for lab in _LABS]
    X = pd.DataFrame(labs, columns=pd.Index(names, dtype=object), index=index)
    y = _make_labels(rng, shared, of_labs, of_notes, n_labels)
    age = np.clip(rng.normal(62, 15, patient.max() + 1), 18, 95).round()
    sex = rng.choice(["Female", "Male"], patient.max() + 1)
    start = pd.Timestamp("2150-01-01") + pd.to_timedelta(
        rng.integers(0, 730 * 24 * 60, n_stays), unit="min"
    )
    targets = [f"disease {j + 1}" for j in range(n_labels)]
    columns = [f"{part} {k}" for part in _PARTS for k in range(_N_FACTORS)]
    return Cohort(
        X=X.assign(
            note=pd.Series(notes, index=index, dtype="str"), age=age[patient], sex=sex[patient]
        ).astype({"sex": "str"}),
        y=pd.DataFrame(y, columns=pd.Index(targets, dtype=object), index=index),
        groups=pd.Series(patient, index=index, name="patient"),
        hospitals=pd.Series(hospital, index=index, name="hospital"),
        index_times=pd.Series(start + pd.Timedelta(hours=24), index=index, name="index_time"),
        subgroups=pd.DataFrame({"sex": sex[patient], "age": age[patient]}, index=index),
        lab_columns=names,
        vital_columns=[],
        note_column="note",
        demographic_columns=["age", "sex"],
        history_columns=[],
        units={lab[0]: lab[1] for lab in _LABS},
        reference_ranges={lab[0]: lab[5] for lab in _LABS},
        target_names=targets,
        stay_ids=index.to_numpy(),
        counts={"stays read": n_stays, "stays kept": n_stays},
        DESCR=read_description("made"),
        factors=pd.DataFrame(factors, columns=columns, index=index),
    )


def _make_labs(rng, factors, hospital, n_hospitals) -> np.ndarray:
    """Values (n, n_labs), NaN where not ordered."""
    # The loadings do not depend on the seed: labs mean the same in all hospitals
    loadings = np.random.default_rng(7).normal(size=(factors.shape[1], len(_LABS)))
    loadings /= np.linalg.norm(loadings, axis=0)
    shift = 0.2 * rng.normal(size=(n_hospitals, len(_LABS)))
    noise = rng.normal(size=(len(factors), len(_LABS)))
    z = np.sqrt(0.6) * factors @ loadings + np.sqrt(0.4) * noise + shift[hospital]
    usual, spread = (np.array([lab[k] for lab in _LABS]) for k in (2, 3))
    skewed = np.array([lab[4] for lab in _LABS])
    values = np.where(skewed, usual * np.exp(spread * np.where(skewed, z, 0)), usual + spread * z)
    values = np.maximum(values, 0.0).round(2)

    severity = factors[:, :_N_FACTORS].sum(axis=1, keepdims=True)
    rarity = 1.0 / (1.0 + np.exp(np.array(_ORDERED)))
    chance = 1.0 / (1.0 + np.exp(-(np.array(_ORDERED) + 1.2 * rarity * severity)))
    ordered = rng.random(chance.shape) < chance
    lost = rng.random(values.shape) < 0.02
    values[~np.repeat(ordered, _PANELS, axis=1) | lost] = np.nan
    return values


def _make_notes(rng, factors) -> np.ndarray:
    """Texts (n,) in which factors show as findings, named or negated."""
    n = len(factors)
    # The findings of the last factors occur in notes alone
    findings = (*FINDINGS[:_N_FACTORS], *FINDINGS[2 : 2 + factors.shape[1] - _N_FACTORS])
    sentences = np.empty((n, 3 * len(findings) + 3), dtype=object)
    column = 0
    for factor, of_factor in zip(factors.T, findings, strict=True):
        for finding in of_factor:
            heard = factor + 0.6 * rng.normal(size=n)
            told = rng.random(n) < 0.8
            sentences[:, column] = np.select(
                [told & (heard > 0.4), told & (heard < -0.4)],
                [f"Patient has {finding}.", f"No {finding}."],
                default="",
            )
            column += 1
    for place in range(column, column + 3):
        sentences[:, place] = np.array(FILLER, dtype=object)[rng.integers(0, len(FILLER), n)]
    order = rng.random(sentences.shape).argsort(axis=1)
    sentences = np.take_along_axis(sentences, order, axis=1)
    copied = rng.random(n) < 0.2
    texts = [" ".join(filter(None, row)) for row in sentences]
    return np.array(
        [f"{t}\n\nCopied forward: {t}" if c else t for t, c in zip(texts, copied, strict=True)],
        dtype=object,
    )


def _make_labels(rng, shared, of_labs, of_notes, n_labels) -> np.ndarray:
    k = np.arange(n_labels) % _N_FACTORS
    signal = 1.5 * shared[:, k] + 1.2 * of_labs[:, k] + 1.2 * of_notes[:, (k + 1) % _N_FACTORS]
    usual = np.linspace(-1.0, -3.5, n_labels) if n_labels > 1 else np.array([-1.0])
    return (rng.random(signal.shape) < 1.0 / (1.0 + np.exp(-signal - usual))).astype(int)
