"""What MEDFuseClassifier learns from: weights, missing labels, losses, scores, tokens, absence."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse._nn.fusion import drop_modalities
from sklearn_medfuse.metrics import get_scorer

FUSIONS = ["disentangled", "concat", "late", "kronecker", "labs", "notes"]
EXACT = {
    "modalities": {"labs": 3, "notes": 4},
    "d_model": 8,
    "n_heads": 2,
    "n_tokens": 2,
    "n_estimators": 1,
    "dropout": 0.0,
    "max_epochs": 10,
    "batch_size": 1000,
    "learning_rate": 1e-2,
    "precision": "float64",
    "device": "cpu",
    "random_state": 0,
}


def make(**params):
    return MEDFuseClassifier(**EXACT | params)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 7))


@pytest.fixture
def y(X):
    return (X[:, [0, 4]] > 0).astype(int)


# Fusions


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_and_says_its_parts(fusion):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 7))
    y = (X[:, [0, 4]] > 0).astype(int)
    X[:20, :3], X[20:40, 3:] = np.nan, np.nan
    model = make(fusion=fusion, max_epochs=15, batch_size=64, precision="float32").fit(X, y)
    aurocs = roc_auc_score(y[40:], model.predict_proba(X[40:]), average=None)
    reads = [fusion != "notes", fusion != "labs"]
    assert (aurocs[reads] > 0.9).all()
    assert (aurocs[~np.array(reads)] < 0.75).all()
    assert model.transform(X).shape == (400, len(model.get_feature_names_out()))
    parts = {
        "disentangled": ["labs", "notes", "shared"],
        "kronecker": ["labs", "notes", "shared"],
        "late": ["labs", "notes"],
        "concat": ["shared"],
        "labs": ["labs"],
        "notes": ["notes"],
    }
    assert model.part_names_ == [*parts[fusion], "baseline"]


def test_a_fusion_of_one_modality_does_not_read_the_others(X, y):
    model = make(fusion="notes").fit(X, y)
    other = X.copy()
    other[:, 0] = np.nan  # In part, which the labs would not accept
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(X))


def test_a_fusion_of_an_unknown_modality_is_refused(X, y):
    with pytest.raises(ValueError, match="fusion='letters' reads"):
        make(fusion="letters").fit(X, y)


def test_columns_without_names_are_the_one_modality_asked_for(X, y):
    model = make(fusion="labs", modalities="auto").fit(X, y)
    assert list(model.modalities_) == ["labs"]
    assert len(model.modalities_["labs"]) == 7


def test_late_fusion_leaves_absent_modalities_out(X, y):
    model = make(fusion="late").fit(X, y)
    X[:10, 3:] = np.nan
    of_notes = np.char.startswith(model.get_feature_names_out().astype(str), "notes")
    assert (model.transform(X)[:10, of_notes] == 0).all()


def test_mutual_information_is_of_the_disentangled_fusion_alone(X, y):
    with pytest.raises(ValueError, match="needs fusion='disentangled'"):
        make(fusion="late").fit(X, y).mutual_information(X)


def test_the_bound_steers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 7))
    y = (X[:, [0, 4]] > 0).astype(int)
    options = {"max_epochs": 8, "batch_size": 64, "critic_steps": 2}
    free, held = (
        make(mi_weight=weight, precision="float32", **options).fit(X, y).mutual_information(X)
        for weight in (1e-9, 30.0)
    )
    assert held < free


def test_more_steps_of_the_critic_tell_more(X, y):
    few, many = (
        make(critic_steps=steps, mi_weight=1e-9).fit(X, y).mutual_information(X)
        for steps in (1, 10)
    )
    assert many != few


# Weights


def test_weights_are_repeated_rows_of_labels(X, y):
    X[4:9, :3] = np.nan
    weight = np.random.default_rng(1).integers(0, 4, size=60)
    repeated = make(mi_weight=0.5).fit(X.repeat(weight, axis=0), y.repeat(weight, axis=0))
    weighted = make(mi_weight=0.5).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-6)


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_the_size_of_weights_does_not_matter_to_the_net(X, y, factor):
    model = make(linear_weight=0.0)
    expected = model.fit(X, y).predict_proba(X)
    found = model.fit(X, y, sample_weight=np.full(60, factor)).predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_weights_of_zero_or_less_are_refused(X, y):
    with pytest.raises(ValueError, match="zero"):
        make().fit(X, y, sample_weight=np.zeros(60))
    with pytest.raises(ValueError, match="Negative"):
        make().fit(X, y, sample_weight=np.r_[-1, np.ones(59)])


def balance(column):
    """Weights of 0 and 1 that make both count alike, as a dict for class_weight."""
    known = column[~np.isnan(column)]
    return {value: len(known) / (2 * (known == value).sum()) for value in (0, 1)}


@pytest.mark.parametrize("holes", [False, True])
def test_balanced_labels_weigh_their_positives_and_negatives_alike(X, y, holes):
    y = np.c_[y[:, 0], X[:, 4] > 1].astype(float)
    if holes:
        y[::3, 0] = np.nan
    by_hand = make(class_weight=[balance(column) for column in y.T]).fit(X, y)
    found = make(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(found.predict_proba(X), by_hand.predict_proba(X), rtol=1e-6)
    assert not np.allclose(found.predict_proba(X), make().fit(X, y).predict_proba(X))


def test_class_weights_by_label_and_for_all(X, y):
    one, three = {0: 1, 1: 1}, {0: 1, 1: 3}
    weights = (None, three, [three] * 2, [three, one])
    fit = [make(class_weight=each, linear_weight=0.6).fit(X, y) for each in weights]
    plain, of_all, of_each, of_first = (model.predict_proba(X) for model in fit)
    np.testing.assert_array_equal(of_all, of_each)
    # The other label is not raised, but loses some of its share in the loss
    shift = of_first - plain
    assert shift[:, 0].mean() > 0.1 > 0.05 > abs(shift)[:, 1].mean()
    with pytest.raises(ValueError, match="list of 1 dicts"):
        make(class_weight=[three]).fit(X, y)


def test_balanced_weights_raise_the_probability_of_a_rare_label(X):
    y = np.c_[X[:, 0] > 1.2, X[:, 4] > 0].astype(int)
    plain, balanced = (make(class_weight=w).fit(X, y).predict_proba(X) for w in (None, "balanced"))
    assert balanced[:, 0].mean() > plain[:, 0].mean() + 0.1


# Missing labels


@pytest.mark.parametrize("form", ["array", "frame", "nullable"])
def test_a_missing_label_counts_neither_as_0_nor_as_1(X, y, form):
    holes = y.astype(float)
    holes[::3, 0] = np.nan
    if form == "frame":
        holes = pd.DataFrame(holes, columns=["CHF", "COPD"])
    if form == "nullable":
        holes = pd.DataFrame(holes, columns=["CHF", "COPD"]).astype("Int64")
    model = make(max_epochs=40).fit(X, holes)
    # The truth of the rows with a hole is predicted as well as that of others
    assert roc_auc_score(y[::3, 0], model.predict_proba(X[::3])[:, 0]) > 0.9


def test_a_label_that_nobody_has_is_refused(X, y):
    holes = y.astype(float)
    holes[:, 1] = np.nan
    with pytest.raises(ValueError, match="1 labels, first at position 1, are missing"):
        make().fit(X, holes)


# Early stopping on a score


@pytest.mark.parametrize("scoring", ["roc_auc", get_scorer("macro_auprc")])
def test_early_stopping_keeps_the_epoch_of_the_best_score(scoring):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 7))
    y = (X[:, [0, 4]] + rng.normal(size=(200, 2)) > 0).astype(int)
    options = {"early_stopping": True, "validation_fraction": 0.3, "learning_rate": 3e-2}
    model = make(scoring=scoring, n_iter_no_change=3, max_epochs=30, **options).fit(X, y)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ < 30
    assert int(np.argmax(scores)) == model.n_iter_ - 4
    assert not hasattr(model.set_params(scoring="loss").fit(X, y), "validation_scores_")


def test_a_score_of_classes_is_at_a_threshold_of_a_half():
    X = np.random.default_rng(0).normal(size=(200, 7))
    options = {"early_stopping": True, "validation_fraction": 0.3, "learning_rate": 3e-2}
    model = make(scoring="accuracy", max_epochs=10, **options).fit(X, (X[:, 0] > 0).astype(int))
    # To call every row positive, or none, is right for half
    assert max(model.validation_scores_) > 0.8


def test_rows_with_a_missing_label_are_not_scored(X):
    """Label 1 is 1 where label 0 is missing, and 0 elsewhere."""
    y = np.c_[np.arange(len(X)) % 2, np.zeros(len(X))]
    y[::3] = np.nan, 1
    seen = []

    def count_labels(model, X, y):
        seen.append(y[:, 1].sum())
        return 0.0

    options = {"early_stopping": True, "validation_fraction": 0.5, "max_epochs": 2}
    make(scoring=count_labels, **options).fit(X, y)
    assert seen
    assert not any(seen)


def test_one_column_of_labels_may_not_be_missing(X, y):
    holes = y[:, :1].astype(float)
    holes[0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make().fit(X, holes)


# Modality dropout


def test_modalities_are_dropped_in_training(X, y):
    without, often = (make(modality_dropout=p).fit(X, y).predict_proba(X) for p in (0.0, 0.9))
    assert np.abs(without - often).max() > 0.01


def test_modality_dropout_never_takes_the_last_modality():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        present = torch.rand(2000, 3) < 0.6
        kept = drop_modalities(present, 0.5)
    assert not (kept & ~present).any()
    torch.testing.assert_close(kept.any(dim=1), present.any(dim=1))
    lost = (present & ~kept)[present.sum(dim=1) > 1].sum() / present[present.sum(dim=1) > 1].sum()
    assert 0.3 < lost < 0.5


def test_modality_dropout_readies_for_absence():
    """Both modalities tell the same; without dropout the model leans on both at once."""
    rng = np.random.default_rng(0)
    cause = rng.normal(size=(600, 2))
    X = np.hstack([cause + 0.5 * rng.normal(size=(600, 2)) for _ in range(2)])
    y = (cause > 0).astype(int)
    options = {"modalities": {"labs": 2, "notes": 2}, "batch_size": 64, "precision": "float32"}
    absent = X[300:].copy()
    absent[:, :2] = np.nan
    alone = make(**options, fusion="notes").fit(X[:300], y[:300])
    dropped = make(**options, modality_dropout=0.3).fit(X[:300], y[:300])
    scores = [roc_auc_score(y[300:], m.predict_proba(absent)) for m in (alone, dropped)]
    assert scores[1] > scores[0] - 0.01


# Tokens


def test_tokens_are_read_and_absent_ones_are_not():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(500, 6, 3))
    # The label is in whichever token stands out; its place is another one in every row
    y = rng.integers(0, 2, size=(500, 2))
    place = rng.integers(0, 4, size=500)
    tokens[np.arange(500), place, 0] = 8
    tokens[np.arange(500)[:, None], place[:, None], [1, 2]] = 3 * (2 * y - 1)
    X = np.hstack([rng.normal(size=(500, 2)), tokens.reshape(500, -1)])
    X[:, 2 + 4 * 3 :] = np.where(rng.random((500, 1)) < 0.5, np.nan, X[:, 2 + 4 * 3 :])
    model = make(
        modalities={"labs": 2, "notes": 18},
        input_tokens={"notes": 6},
        batch_size=64,
        max_epochs=25,
        precision="float32",
    ).fit(X[:400], y[:400])
    assert model.n_input_tokens_ == {"labs": 0, "notes": 6}
    assert roc_auc_score(y[400:], model.predict_proba(X[400:])) > 0.9
    assert np.isfinite(model.predict_proba(np.full((1, 20), np.nan))).all()


# Precision


def test_mixed_precision_is_close_to_single(X, y):
    single = make(precision="float32").fit(X, y).predict_proba(X)
    mixed = make(precision="bfloat16").fit(X, y).predict_proba(X)
    assert not np.array_equal(mixed, single)
    np.testing.assert_allclose(mixed, single, atol=0.05)
