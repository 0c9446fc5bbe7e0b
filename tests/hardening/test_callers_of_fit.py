"""A caller of fit may have switched gradients off; the result is the same."""

import numpy as np
import pytest
import torch

# torch.inference_mode switches off all that no_grad does, and more
SWITCHED_OFF = pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
LAB_NAMES = ["a", "b", "c"]


@SWITCHED_OFF
def test_labs(make_lab_encoder, table, off):
    labs = table[LAB_NAMES]
    expected = make_lab_encoder().fit(labs).partial_fit(labs).transform(labs)
    with off():
        encoder = make_lab_encoder().fit(labs).partial_fit(labs)
        assert torch.is_grad_enabled() is False
    np.testing.assert_array_equal(encoder.transform(labs), expected)


@pytest.mark.parametrize("method", [None, "lora", "full"])
def test_notes(note_encoder, table, y, method):
    notes = table["note"]
    params = {
        "fine_tuning": method,
        "chunk_pooling": "attention",
        "max_epochs": 1,
        "random_state": 0,
    }
    expected = note_encoder(**params).fit(notes, y).transform(notes)
    with torch.inference_mode():
        encoder = note_encoder(**params).fit(notes, y)
    np.testing.assert_array_equal(encoder.transform(notes), expected)


@SWITCHED_OFF
def test_the_pipeline(make_pipeline, table, y, off):
    expected = make_pipeline().fit(table, y).predict_proba(table)
    with off():
        pipe = make_pipeline().fit(table, y)
        np.testing.assert_array_equal(pipe.predict_proba(table), expected)
    np.testing.assert_array_equal(pipe.predict_proba(table), expected)


@SWITCHED_OFF
def test_training_goes_on_after_it(make_lab_encoder, table, off):
    """No weight becomes one that torch can never train again."""
    labs = table[LAB_NAMES]
    with off():
        encoder = make_lab_encoder().fit(labs)
    before = encoder.transform(labs)
    encoder.partial_fit(labs)
    assert not np.array_equal(encoder.transform(labs), before, equal_nan=True)
