"""A device without room for a batch gets smaller ones, with one warning and the same result.

Of training too: a step is divided, and its gradients are those of the whole step.
"""

import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse._nn.fusion import FusionWithCritic
from sklearn_medfuse._nn.masked_autoencoder import MaskedLabAutoencoder
from sklearn_medfuse._training import FittingRows, rows_of_prediction
from sklearn_medfuse.fusion._training import FusionNet
from sklearn_medfuse.notes._fine_tuning import TuningTask
from sklearn_medfuse.notes._language_model import backbone
from sklearn_medfuse.notes._language_model.backbone import Backbone


@pytest.fixture
def many_notes():
    return [f"Note {i}: " + "denies pain. " * (i % 4) for i in range(60)] + [None, " "]


@pytest.fixture
def limit_memory(monkeypatch):
    """Return a function that limits a model's tokens per call and lists what it took."""
    taken = []
    embed = Backbone.embed

    def limit(n_tokens):
        def limited(self, batch, *options):
            size = sum(self.padded_width(len(chunk)) for chunk in batch)
            if size > n_tokens:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            taken.append(size)
            return embed(self, batch, *options)

        monkeypatch.setattr(Backbone, "embed", limited)
        return taken

    return limit


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_smaller_batches_give_the_same_bits(
    note_encoder, tiny_bert, tiny_llama, many_notes, limit_memory, model, anew
):
    folder = tiny_bert if model == "bert" else tiny_llama
    encoder = note_encoder(model=folder, batch_tokens=1000).fit(many_notes)
    expected = anew(encoder, many_notes)
    taken = limit_memory(200)
    message = r"batch_tokens=1000 do not fit .* device='cpu'; batches of 1\d\d tokens"
    with pytest.warns(UserWarning, match=message) as caught:
        found = anew(encoder, many_notes)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, expected)
    n_tokens = sum(taken)
    # The size that fits is known by now; a warning would be an error
    np.testing.assert_array_equal(anew(encoder, many_notes), expected)
    assert sum(taken) == 2 * n_tokens


def test_every_chunk_is_embedded_once(note_encoder, many_notes, limit_memory, anew):
    """Batches that were done before one did not fit are not repeated."""
    encoder = note_encoder(batch_tokens=120).fit(many_notes)
    taken = limit_memory(10**6)
    anew(encoder, many_notes)
    total = sum(taken)
    taken.clear()
    limit_memory(60)
    with pytest.warns(UserWarning, match="batch_tokens"):
        anew(encoder, many_notes)
    assert sum(taken) == total


def test_fit_transform_and_a_padded_model_too(
    note_encoder, many_notes, limit_memory, monkeypatch, forget
):
    monkeypatch.setattr(backbone, "can_pack", lambda model: False)
    expected = note_encoder(batch_tokens=1000).fit_transform(many_notes)
    forget()
    limit_memory(200)
    with pytest.warns(UserWarning, match="batch_tokens=1000") as caught:
        found = note_encoder(batch_tokens=1000).fit_transform(many_notes)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, expected)


def test_a_window_that_does_not_fit_alone_is_an_error(note_encoder, many_notes, limit_memory, anew):
    encoder = note_encoder().fit(many_notes)
    limit_memory(3)
    with pytest.raises(torch.OutOfMemoryError, match="lower max_length"):
        anew(encoder, many_notes)


@pytest.fixture
def classifier():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 5)), rng.integers(0, 2, (50, 2))
    model = MEDFuseClassifier(
        modalities={"labs": 2, "notes": 3},
        d_model=8,
        n_heads=2,
        n_estimators=2,
        max_epochs=2,
        device="cpu",
        random_state=0,
    )
    return model.fit(X, y), X


def test_predict_takes_fewer_rows_at_once(classifier, monkeypatch):
    model, X = classifier
    methods = ("predict_proba", "transform", "mutual_information")
    expected = [getattr(model, name)(X) for name in methods]
    module = model.net_.module_
    forward, sizes = module.forward_parts, []

    def limited(blocks, present):
        if len(present) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        sizes.append(len(present))
        return forward(blocks, present)

    monkeypatch.setattr(module, "forward_parts", limited)
    for name, whole in zip(methods, expected, strict=True):
        sizes.clear()
        with pytest.warns(UserWarning, match=r"4096 rows .* batches of 6 are used") as caught:
            found = getattr(model, name)(X)
        assert len(caught) == 1
        assert sum(sizes) == 50
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-12)


def test_one_row_that_does_not_fit_is_an_error():
    def fail(rows):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        list(rows_of_prediction(torch.device("cpu")).batches(5, 4, fail))


def test_batches_that_fit_are_as_large_as_asked_for():
    parts = rows_of_prediction(torch.device("cpu")).batches(10, 4, lambda rows: rows.stop)
    assert [(rows.start, stop) for rows, stop in parts] == [(0, 4), (4, 8), (8, 10)]


# Training


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")
DIVIDED = r"Training steps of {} rows do not fit .* parts of {} rows or fewer.*{}"


@pytest.fixture
def limit_rows(monkeypatch):
    """Return a function that limits a method's rows per call and lists what it took."""

    def limit(owner, name, n_rows, count):
        whole, taken = getattr(owner, name), []

        def limited(self, *args):
            result = whole(self, *args)
            # At the end, when layers have drawn and a critic has made its step
            if count(*args) > n_rows:
                raise OUT_OF_MEMORY
            taken.append(count(*args))
            return result

        monkeypatch.setattr(owner, name, limited)
        return taken

    return limit


def test_a_failed_attempt_leaves_no_trace():
    """It is repeated with the same draws, and with fewer rows from then on."""
    rows = FittingRows(torch.device("cpu"), "{size} of {asked} on {device}", "buy more")
    tried = []

    def attempt(size):
        tried.append(size)
        drawn = torch.rand(3)
        if size > 3:
            raise OUT_OF_MEMORY
        return drawn

    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="3 of 12 on 'cpu'") as caught:
        found = rows.run(12, attempt)
    assert len(caught) == 1
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.testing.assert_close(found, torch.rand(3), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), after)
    # Warned of once, though even fewer rows of the next fit
    rows.run(10, lambda size: attempt(4 if size > 1 else 1))
    assert tried == [12, 6, 3, 4, 1]
    with pytest.raises(torch.OutOfMemoryError, match=r"single row .* buy more"):
        rows.run(10, lambda size: attempt(4))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_lab_training_in_parts_is_that_of_whole_steps(make_lab_encoder, limit_rows, early_stopping):
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[::3, 1] = np.nan
    params = {"dropout": 0.0, "early_stopping": early_stopping, "n_iter_no_change": 9}
    expected = make_lab_encoder(**params).fit(X)
    taken = limit_rows(
        MaskedLabAutoencoder, "forward_encoder", 5, lambda visible, version=None: len(visible.lab)
    )
    with pytest.warns(UserWarning, match=DIVIDED.format(16, 4, "batch_size=4")) as caught:
        found = make_lab_encoder(**params).fit(X)
    assert len(caught) == 1
    assert max(taken) <= 4
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, atol=1e-5)
    assert abs(found.loss_curve_[0] - found.loss_curve_[-1]) > 1e-3
    with pytest.warns(UserWarning, match=r"1024 rows .* batches of 3 are used") as caught:
        vectors = found.transform(X)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="batches of 3"):
        np.testing.assert_allclose(vectors, expected.transform(X), atol=1e-4)


def test_what_a_lab_encoder_says_needs_no_room_for_all(make_lab_encoder, limit_rows):
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[::3, 1] = np.nan
    encoders = [make_lab_encoder(output=output).fit(X) for output in ("pooled", "tokens")]
    calls = [partial(encoder.transform, X) for encoder in encoders]
    calls += [
        partial(encoders[0].impute, X),
        lambda: encoders[0].impute(X, return_std=True)[1],
        partial(encoders[0].score, X),
        lambda: encoders[0].reconstruct(X)[["lab", "true", "predicted", "std"]],
    ]
    expected = [call() for call in calls]
    limit_rows(MaskedLabAutoencoder, "forward_decoder", 7, lambda encoded, lab: len(lab))
    limit_rows(
        MaskedLabAutoencoder, "forward_encoder", 7, lambda visible, version=None: len(visible.lab)
    )
    for call, whole in zip(calls, expected, strict=True):
        with pytest.warns(UserWarning, match="with the same result"):
            np.testing.assert_allclose(call(), whole, rtol=0, atol=1e-9)
    with pytest.warns(UserWarning, match="with other draws") as caught:
        drawn = encoders[0].impute(X, n_imputations=2)
    assert len(caught) == 1
    assert np.isfinite(drawn).all()


def test_a_row_of_labs_that_does_not_fit_is_an_error(make_lab_encoder, limit_rows):
    X = np.random.default_rng(0).normal(size=(60, 3))
    limit_rows(MaskedLabAutoencoder, "forward", 0, lambda visible, *args: len(visible.lab))
    with pytest.raises(torch.OutOfMemoryError, match=r"single row .* lower d_model or n_layers"):
        make_lab_encoder().fit(X)


@pytest.fixture
def fit_fusion():
    """Return a function that fits a classifier without dropout."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 5)), rng.integers(0, 2, (50, 2))
    weight = rng.uniform(0.5, 2.0, 50)

    def fit(**params):
        small = {"d_model": 8, "n_heads": 2, "n_estimators": 2, "max_epochs": 3, "batch_size": 16}
        model = MEDFuseClassifier(
            modalities={"labs": 2, "notes": 3},
            dropout=0.0,
            device="cpu",
            random_state=0,
            linear_weight=0.0,
            **small | params,
        )
        return model.fit(X, y, sample_weight=weight), model.predict_proba(X)

    return fit


@pytest.mark.parametrize("params", [{"mi_weight": 0.0}, {"mi_weight": 0.0, "fusion": "concat"}])
def test_fusion_training_in_parts_is_that_of_whole_steps(fit_fusion, limit_rows, params):
    model, expected = fit_fusion(**params)
    limit_rows(FusionWithCritic, "forward_logits", 5, lambda parts: _n_rows(parts))
    with pytest.warns(UserWarning, match="do not fit") as caught:
        divided, found = fit_fusion(**params)
    told = [str(warning.message) for warning in caught]
    assert re.match(DIVIDED.format(16, 4, "batch_size=4"), told[0])
    assert sum("Training" in message for message in told) == 1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    losses = [one.net_.history[:, "train_loss"] for one in (model, divided)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_the_critic_makes_each_step_once(fit_fusion, limit_rows):
    """With large parts the bound is nearly that of the batch, and the critic is the same."""
    _, expected = fit_fusion(mi_weight=0.1, critic_steps=2, max_epochs=1, batch_size=50)
    steps = limit_rows(FusionNet, "_fit_critic", 10**6, lambda *args: 1)
    limit_rows(FusionWithCritic, "forward_logits", 25, lambda parts: _n_rows(parts))
    with pytest.warns(UserWarning, match="do not fit") as caught:
        _, found = fit_fusion(mi_weight=0.1, critic_steps=2, max_epochs=1, batch_size=50)
    assert re.match(DIVIDED.format(50, 25, "batch_size=25"), str(caught[0].message))
    assert len(steps) == 2
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_critic_is_fitted_to_the_whole_batch_in_parts(fit_fusion, limit_rows):
    """Its loss is a mean over rows, so parts give its step exactly."""
    params = {"mi_weight": 1e-12, "critic_steps": 2}
    model, _ = fit_fusion(**params)
    limit_rows(FusionWithCritic, "forward_parts", 5, lambda blocks, present: len(present))
    with pytest.warns(UserWarning, match="do not fit"):
        divided, _ = fit_fusion(**params)
    whole, parts = (dict(one.net_.module_.critic.named_parameters()) for one in (model, divided))
    assert whole
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-3, atol=1e-4)


def _n_rows(parts):
    return len(parts[0].shared if parts[0].shared is not None else parts[0].specific[0])


@pytest.fixture
def calm_bert(tiny_bert, tmp_path):
    """A model without dropout, which would draw other units for each part."""
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("objective", ["supervised", "language"])
@pytest.mark.parametrize("model", ["bert", "llama"])
def test_fine_tuning_in_parts_is_that_of_whole_steps(
    note_encoder, calm_bert, tiny_llama, many_notes, limit_rows, objective, model
):
    y = np.arange(len(many_notes)) % 2
    params = {"fine_tuning": "lora", "objective": objective, "max_epochs": 2, "random_state": 0}
    params |= {"model": calm_bert if model == "bert" else tiny_llama}
    params |= {"batch_size": 8, "gradient_accumulation": 2, "learning_rate": 1e-2}
    expected = note_encoder(**params).fit(many_notes, y).validation_loss_
    if objective == "supervised":
        taken = limit_rows(TuningTask, "note_vectors", 3, len)
    else:
        taken = limit_rows(TuningTask, "_language", 3, lambda *args: args[-1].stop - args[-1].start)
    with pytest.warns(UserWarning, match=DIVIDED.format(8, 2, "batch_size=2")) as caught:
        found = note_encoder(**params).fit(many_notes, y).validation_loss_
    assert len(caught) == 1
    assert max(taken) <= 3
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(expected[-1] - expected[0]) > 1e-4


def test_a_note_that_does_not_fit_in_training_is_an_error(note_encoder, many_notes, limit_rows):
    y = np.arange(len(many_notes)) % 2
    # A window that the width is read from fits, and nothing after it
    fits = iter([0])
    limit_rows(TuningTask, "note_vectors", 0, lambda notes: next(fits, 1))
    with pytest.raises(torch.OutOfMemoryError, match="lower max_length or max_chunks"):
        note_encoder(fine_tuning="lora", max_epochs=1).fit(many_notes, y)
