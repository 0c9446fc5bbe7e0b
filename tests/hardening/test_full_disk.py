"""A full disk costs what could not be kept, not the work."""

import sqlite3

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_medfuse.labs._lab_model import MaskedTrainer
from sklearn_medfuse.notes._language_model.cache import FolderCache
from sklearn_medfuse.persistence import PrivateMemory

LAB_NAMES = ["a", "b", "c"]


def half_written(folder):
    return list(folder.rglob(".writing-*"))


def test_a_fit_goes_on_without_its_checkpoint(make_lab_encoder, table, small_disk, fill):
    labs = table[LAB_NAMES]
    expected = make_lab_encoder().fit(labs).transform(labs)
    kept = small_disk / "kept"
    kept.mkdir()
    fill(small_disk)
    with pytest.warns(UserWarning, match="could not be kept in checkpoint_dir") as caught:
        encoder = make_lab_encoder(checkpoint_dir=kept).fit(labs)
    assert len(caught) == 1
    np.testing.assert_array_equal(encoder.transform(labs), expected)
    assert list(kept.iterdir()) == []


def test_the_state_before_stays_when_the_next_one_does_not_fit(
    make_lab_encoder, table, small_disk, fill, monkeypatch
):
    """Interrupted in the fourth epoch, after the third's state could not be kept."""
    labs = table[LAB_NAMES]
    expected = make_lab_encoder(max_epochs=4).fit(labs).transform(labs)
    kept = small_disk / "kept"
    encoder = make_lab_encoder(max_epochs=4, checkpoint_dir=kept)
    one_pass, ballast = MaskedTrainer.one_pass, []

    def fill_and_die(self, rows):
        if len(self.loss_curve) == 2:
            ballast.append(fill(small_disk))
        if len(self.loss_curve) == 3:
            raise InterruptedError
        return one_pass(self, rows)

    monkeypatch.setattr(MaskedTrainer, "one_pass", fill_and_die)
    with pytest.warns(UserWarning, match="checkpoint_dir"), pytest.raises(InterruptedError):
        encoder.fit(labs)
    (state,) = kept.iterdir()
    assert state.suffix == ".pt"
    ballast[0].unlink()
    monkeypatch.undo()
    np.testing.assert_array_equal(encoder.fit(labs).transform(labs), expected)


def test_notes_are_embedded_without_their_cache(note_encoder, table, small_disk, fill, forget):
    notes = table["note"]
    expected = note_encoder().fit_transform(notes)
    encoder = note_encoder(cache=small_disk / "cache", batch_tokens=64).fit(notes[:2])
    ballast = fill(small_disk)
    forget()
    with pytest.warns(UserWarning, match="embedding cache could not be used") as caught:
        np.testing.assert_array_equal(encoder.transform(notes), expected)
    assert len(caught) == 1
    ballast.unlink()
    forget()
    # What was kept before is whole, and nothing is half-written
    with sqlite3.connect(small_disk / "cache" / "vectors.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    np.testing.assert_array_equal(encoder.transform(notes), expected)


def test_a_cache_that_could_not_begin_is_done_without(
    note_encoder, notes, small_disk, fill, forget
):
    expected = note_encoder().fit_transform(notes)
    forget()
    fill(small_disk)
    with pytest.warns(UserWarning, match="embedding cache could not be used"):
        found = note_encoder(cache=small_disk / "cache").fit_transform(notes)
    np.testing.assert_array_equal(found, expected)


def test_entries_come_again_once_there_is_room(small_disk, fill, monkeypatch):
    monkeypatch.setattr("sklearn_medfuse.notes._language_model.cache._PAUSE", 0.0)
    cache = FolderCache(small_disk / "cache", 10**6)
    cache.put_many({b"a": b"1"})
    ballast = fill(small_disk)
    with pytest.warns(UserWarning, match="Make room"):
        cache.put_many({b"%d" % i: b"x" * 4000 for i in range(20)})
    assert cache.get_many([b"a"]) == {b"a": b"1"}
    ballast.unlink()
    cache.put_many({b"b": b"2"})
    assert cache.get_many([b"a", b"b"]) == {b"a": b"1", b"b": b"2"}


def test_a_pipeline_is_fitted_without_its_memory(
    make_lab_encoder, table, y, small_disk, fill, tmp_path
):
    labs, label = table[LAB_NAMES], y["CHF"]

    def make(memory):
        steps = make_lab_encoder(absent="zero"), LogisticRegression()
        return make_pipeline(*steps, memory=memory)

    expected = make(None).fit(labs, label).predict_proba(labs)
    memory = PrivateMemory(small_disk)
    fill(small_disk)
    with pytest.warns(UserWarning, match="cannot be cached"):
        pipe = make(memory).fit(labs, label)
    np.testing.assert_array_equal(pipe.predict_proba(labs), expected)
    assert half_written(small_disk) == []
