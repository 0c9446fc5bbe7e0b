"""The card holds the reports' numbers and tells nothing of a patient."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_medfuse import make_medfuse_pipeline
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.metrics import calibration_report, multilabel_report, subgroup_report
from sklearn_medfuse.persistence import model_card

NOTE, STAY, PATIENT, HOSPITAL = "zzcanarynote", "zzcanarystay", "zzcanarypatient", "zzcanaryplace"
LAB = 918273.645


def put_canaries(cohort):
    """Put a word into notes, ids and hospitals, and a number into the labs."""
    index = pd.Index([f"{STAY}{i}" for i in cohort.stay_ids], name="stay_id")
    fields = dict(cohort)
    for name in ("X", "y", "subgroups", "groups", "hospitals", "index_times"):
        fields[name] = cohort[name].set_axis(index)
    fields["stay_ids"] = index.to_numpy()
    fields["groups"] = f"{PATIENT} " + fields["groups"].astype(str)
    fields["hospitals"] = f"{HOSPITAL}-" + fields["hospitals"].astype(str)
    X = fields["X"]
    notes = X["note"].astype(object)
    X = X.assign(note=notes.where(notes.isna(), notes + f" {NOTE}"))
    X.loc[X.index[::7], cohort.lab_columns[0]] = LAB
    fields["X"] = X
    fields["subgroups"] = fields["subgroups"].assign(
        ward=[f"{STAY}ward{i}" for i in range(len(index))],
        hospital_name=fields["hospitals"],
        site=fields["hospitals"].to_numpy(),
        weight=np.linspace(40, 120, len(index)),
        rare=np.where(np.arange(len(index)) < 4, f"{PATIENT}rare", "usual"),
    )
    return type(cohort)(**fields)


def table_rows(text):
    """Cells of every table row in a card."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.fixture(scope="module")
def cohorts():
    return put_canaries(make_ehr_cohort(700, n_hospitals=4, random_state=0)).train_test_split(
        test_size=0.5, random_state=0
    )


@pytest.fixture(scope="module")
def model(cohorts):
    """Labs and words of notes, so that words are in the fitted model."""
    train, _ = cohorts
    encode = ColumnTransformer(
        [
            ("labs", make_pipeline(SimpleImputer(), StandardScaler()), train.lab_columns),
            ("notes", make_pipeline(FunctionTransformer(fill_notes), CountVectorizer()), "note"),
        ]
    )
    classify = OneVsRestClassifier(LogisticRegression(solver="liblinear", C=0.01))
    return Pipeline([("encode", encode), ("classify", classify)]).fit(train.X, train.y)


def fill_notes(notes):
    return pd.Series(notes).astype(object).fillna("")


@pytest.fixture(scope="module")
def card(model, cohorts):
    train, test = cohorts
    return model_card(model, test, trained_on=train, n_bootstraps=50, random_state=0).render()


def test_no_canary_lands_in_the_card(card):
    for word in (NOTE, STAY, PATIENT, HOSPITAL, "canary", "918273", "918,273", "9.18"):
        assert word not in card.lower()


def test_no_sentence_of_a_note_lands_in_the_card(card, cohorts):
    for cohort in cohorts:
        for note in cohort.X["note"].dropna():
            assert not any(sentence in card for sentence in note.split(". ") if len(sentence) > 12)


def test_counts_are_rounded_and_none_is_small(card, cohorts):
    _, test = cohorts
    counts = re.findall(r"about ([\d,]+)", card)
    assert len(counts) >= 6
    assert all(int(count.replace(",", "")) % 10 == 0 for count in counts)
    assert all(int(count.replace(",", "")) >= 10 for count in counts)
    # Exact numbers of stays, of positives and of patients are nowhere
    words = set(re.findall(r"[\w.,]*\w", card))
    exact = [
        len(test.X),
        test.groups.nunique(),
        *test.y.sum(),
        *test.subgroups["sex"].value_counts(),
    ]
    assert not {str(n) for n in exact if n > 100 and n % 10} & words
    assert "fewer than 10" in card


def test_its_numbers_are_those_of_the_reports(card, model, cohorts):
    _, test = cohorts
    options = {"groups": test.groups, "n_bootstraps": 50, "random_state": 0}
    y_prob = model.predict_proba(test.X)
    report = multilabel_report(test.y, y_prob, **options)
    calibration = calibration_report(test.y, y_prob, **options)
    by_sex = subgroup_report(test.y, y_prob, test.subgroups[["sex"]], **options)
    for table, column in ((report, "auroc"), (report, "auprc"), (calibration, "slope")):
        for name in ("disease 1", "macro"):
            row = table.loc[name]
            expected = (
                f"{row[column]:.2f} [{row[f'{column}_low']:.2f}, {row[f'{column}_high']:.2f}]"
            )
            assert any(row[0] == name and expected in row for row in table_rows(card))
    female = by_sex[(by_sex["group"] == "Female") & (by_sex["label"] == "macro")].iloc[0]
    expected = f"{female['gap']:.2f} [{female['gap_low']:.2f}, {female['gap_high']:.2f}]"
    assert any("Female" in row and expected in row for row in table_rows(card))


def test_it_has_every_section_and_whole_tables(card):
    sections = re.findall(r"^# (.*)$", card, flags=re.MULTILINE)
    assert sections == [
        "Intended use",
        "Data",
        "Parameters",
        "Evaluation",
        "Calibration",
        "Subgroups",
        "Limits",
        "Versions",
    ]
    assert "\n## Decisions\n" in card
    assert "scikit-learn" in [row[0] for row in table_rows(card)]
    # Every line of a table has as many cells as its head
    for block in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_hospitals_are_numbered_and_small_or_many_values_left_out(card):
    groups = card[card.index("# Subgroups") : card.index("# Limits")]
    rows = [row[:2] for row in table_rows(groups)]
    assert [row for row in rows if row[0] == "hospital"] == [
        ["hospital", f"hospital {i}"] for i in range(1, 5)
    ]
    assert ["age", "45 to under 65"] in rows
    assert ["rare", "usual"] in rows
    assert "Values not shown (fewer than 10 patients): `rare` 1." in groups
    assert "`ward`, `weight`" in groups
    assert "hospital_name" not in groups


class Decided(DummyClassifier):
    """Says the same of everybody, but for the decisions that it is given."""

    def predict_proba(self, X):
        return np.full(self.decisions.shape, 0.2)

    def predict(self, X):
        return self.decisions


def test_shares_of_few_are_not_shown(cohorts):
    """A decision that is made four times would be told by its PPV."""
    _, test = cohorts
    model = Decided()
    model.decisions = np.zeros(test.y.shape)
    model.decisions[np.flatnonzero(test.y.iloc[:, 0] == 1)[:4], 0] = 1
    model.decisions[np.flatnonzero(test.y.iloc[:, 0] == 0)[:40], 0] = 1
    text = model_card(model, test, n_bootstraps=0).select("Evaluation/Decisions").format()
    cells = next(row[1:] for row in table_rows(text) if row[0] == "disease 1")
    # Sensitivity 4 of many, specificity, PPV 4 of 44, NPV
    assert [cell == "n/a" for cell in cells] == [True, False, True, False]


def test_a_rare_label_is_named_but_has_no_score(model, cohorts):
    _, test = cohorts
    y = test.y.copy()
    y["disease 5"] = 0
    y.iloc[:7, 4] = 1
    cohort = type(test)(**{**test, "y": y})
    text = model_card(model, cohort, n_bootstraps=0).render()
    assert "disease 5" not in [row[0] for row in table_rows(text)]
    assert "Not evaluated (fewer than 10 positive or negative stays): disease 5." in text
    rest = multilabel_report(y.iloc[:, :4], model.predict_proba(test.X)[:, :4], n_bootstraps=0)
    expected = f"{rest.loc['macro', 'auroc']:.2f}"
    assert any(row[0] == "macro" and row[2] == expected for row in table_rows(text))


def test_a_cohort_without_groups_that_are_large_enough(cohorts):
    test = cohorts[1].select(np.arange(60))
    bare = type(test)(**{**test, "hospitals": None, "subgroups": None})
    model = Decided()
    model.decisions = np.zeros(test.y.shape)
    assert "# Subgroups" not in model_card(model, bare, min_count=5, n_bootstraps=0).render()
    few = type(test)(**{**test, "hospitals": None, "subgroups": test.subgroups[["ward"]][:0]})
    few["subgroups"] = pd.DataFrame({"team": np.arange(60) // 4}).astype(str)
    text = model_card(model, few, min_count=5, n_bootstraps=0).select("Subgroups").format()
    assert "`team` 15" in text
    assert not table_rows(text)


def test_a_medfuse_pipeline(cohorts, tiny_bert, tmp_path):
    train, test = cohorts[0].select(np.arange(100)), cohorts[1]
    pipe = make_medfuse_pipeline(
        train.lab_columns,
        "note",
        views={},
        random_state=0,
        max_epochs=1,
        memory=str(tmp_path / "cache"),
    )
    pipe.set_params(
        memory=None,
        encode__notes__model=tiny_bert,
        encode__labs__max_epochs=1,
        medfuse__linear_weight=0.0,
        medfuse__d_model=8,
    )
    pipe.fit(train.X, train.y)
    text = model_card(pipe, test, trained_on=train, n_bootstraps=0).render()
    assert "canary" not in text
    assert str(tmp_path) not in text
    assert tiny_bert not in text
    parameters = dict(row for row in table_rows(text) if len(row) == 2)
    assert parameters["encode__notes__model"] == "a local path"
    assert parameters["encode__labs"] == "MaskedLabEncoder"
    assert parameters["medfuse__d_model"] == "8"


@pytest.mark.parametrize("kind", ["search", "forest", "dummy"])
def test_other_estimators(cohorts, kind):
    train, test = cohorts
    labs = ColumnTransformer([("labs", SimpleImputer(), train.lab_columns)])
    forest = RandomForestClassifier(5, max_depth=3, random_state=0)
    made = {
        "search": lambda: GridSearchCV(
            make_pipeline(labs, forest),
            {"randomforestclassifier__max_depth": [2, 3]},
            scoring="roc_auc",
            cv=2,
        ),
        "forest": lambda: make_pipeline(labs, forest),
        "dummy": lambda: DummyClassifier(),
    }
    estimator = made[kind]().fit(train.X, train.y)
    text = model_card(estimator, test, n_bootstraps=0).render()
    polars = type(test)(**{**test, "y": pl.from_pandas(test.y.reset_index(drop=True))})
    assert model_card(estimator, polars, n_bootstraps=0).render() == text
    parameters = dict(row for row in table_rows(text) if len(row) == 2)
    name = "strategy" if kind == "dummy" else "randomforestclassifier__max_depth"
    assert parameters[name] == {"search": "3", "forest": "3", "dummy": "prior"}[kind]


def test_the_seed_decides_and_sections_can_be_changed(model, cohorts, tmp_path, card):
    train, test = cohorts
    again = model_card(model, test, trained_on=train, n_bootstraps=50, random_state=0)
    assert again.render() == card
    again.add(**{"Intended use": "One hospital.", "Licence": "BSD"}).save(tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert "One hospital." in text
    assert "Research on predicting" not in text


def test_an_identifier_in_a_name_is_refused(model, cohorts):
    _, test = cohorts
    for text in (test.groups.iloc[0], test.hospitals.iloc[0], test.stay_ids[0]):
        renamed = type(test)(**{**test, "y": test.y.rename(columns={"disease 1": f"of {text}"})})
        with pytest.raises(ValueError, match="The card would contain 1 identifiers") as info:
            model_card(model, renamed, n_bootstraps=0)
        assert "canary" not in str(info.value)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("classes", [["well", "zzcanarysick"], [1, 2]])
def test_classes_other_than_0_and_1_are_refused(many, classes, cohorts):
    train, test = cohorts
    y = np.array(classes)[train.y.to_numpy()[:, : 5 if many else 1]]
    forest = RandomForestClassifier(3, random_state=0)
    labs = ColumnTransformer([("labs", SimpleImputer(), train.lab_columns)])
    model = make_pipeline(labs, forest).fit(train.X, y if many else y.ravel())
    cohort = type(test)(**{**test, "y": test.y if many else test.y.iloc[:, :1]})
    with pytest.raises(ValueError, match=r"`estimator` .* one 0/1 column per label") as info:
        model_card(model, cohort, n_bootstraps=0)
    assert "canary" not in str(info.value)
    assert info.value.__context__ is None


def test_what_cannot_be_described_is_refused(model, cohorts):
    train, test = cohorts
    n_patients = train.groups.nunique()
    with pytest.raises(ValueError, match=f"{n_patients} patients of `cohort` are also in `train"):
        model_card(model, train, trained_on=train)
    with pytest.raises(ValueError, match="patients, fewer than min_count=10"):
        model_card(model, test.select(np.arange(5)))
    healthy = type(test)(**{**test, "y": 0 * test.y})
    with pytest.raises(ValueError, match="No label of `cohort` has 10 positive and 10 negative"):
        model_card(model, healthy)
    for min_count in (1, 2.5):
        with pytest.raises(ValueError, match=f"`min_count` is {min_count}"):
            model_card(model, test, min_count=min_count)
