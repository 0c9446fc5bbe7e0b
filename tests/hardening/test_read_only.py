"""A read-only folder is still read, and the message names its parameter."""

import numpy as np
import pytest

from sklearn_medfuse.notes._language_model import cache as _cache

LAB_NAMES = ["a", "b", "c"]


def test_a_checkpoint_folder_is_refused_before_training(
    make_lab_encoder, note_encoder, table, y, place, make_read_only
):
    make_read_only(place / "kept")
    for folder in (place / "kept", place / "kept" / "new"):
        with pytest.raises(ValueError, match=r"checkpoint_dir=.* cannot be written to"):
            make_lab_encoder(checkpoint_dir=folder).fit(table[LAB_NAMES])
        tuned = note_encoder(checkpoint_dir=folder, fine_tuning="lora", random_state=0)
        with pytest.raises(ValueError, match=r"checkpoint_dir=.* cannot be written to"):
            tuned.fit(table["note"], y)


def test_a_checkpoint_folder_that_is_a_file_is_refused(make_lab_encoder, table, tmp_path):
    (tmp_path / "kept").touch()
    with pytest.raises(ValueError, match=r"checkpoint_dir=.* cannot be written to"):
        make_lab_encoder(checkpoint_dir=tmp_path / "kept").fit(table[LAB_NAMES])


def test_what_an_embedding_cache_holds_is_used(
    note_encoder, table, place, make_read_only, monkeypatch, forget, embedded
):
    notes = table["note"]
    folder = place / "cache"
    expected = note_encoder(cache=folder).fit_transform(notes)
    # Another process, after this one has ended
    _cache.open_folder_cache(folder, 2**30)._close()
    forget()
    make_read_only(folder)
    files = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    cache = _cache.FolderCache(folder, 2**30)
    monkeypatch.setattr(_cache, "open_folder_cache", lambda *_: cache)
    embedded.clear()
    encoder = note_encoder(cache=folder)
    with pytest.warns(UserWarning, match="embedding cache could not be used") as caught:
        np.testing.assert_array_equal(encoder.fit_transform(notes), expected)
    assert embedded == []
    # New notes are computed without another warning
    assert np.isfinite(encoder.transform(["Neu."])).all()
    assert len(caught) == len(embedded) == 1
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == files


def test_an_empty_read_only_cache_is_done_without(
    note_encoder, notes, place, make_read_only, forget
):
    expected = note_encoder().fit_transform(notes)
    forget()
    make_read_only(place / "cache")
    encoder = note_encoder(cache=place / "cache")
    with pytest.warns(UserWarning, match="embedding cache could not be used") as caught:
        np.testing.assert_array_equal(encoder.fit_transform(notes), expected)
    np.testing.assert_array_equal(encoder.transform(notes), expected)
    assert len(caught) == 1
