"""The caches give back what was put in, keep to their bytes and hold no text."""

import sqlite3
import stat
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from sklearn_medfuse.notes._language_model import cache as caches

CANARY = "Zebulon Quixote"


@pytest.fixture(params=["memory", "folder", "layered"])
def cache(request, tmp_path):
    if request.param == "memory":
        return caches.MemoryCache(10**6)
    if request.param == "folder":
        return caches.FolderCache(tmp_path / "cache", 10**6)
    return caches.VectorCache(tmp_path / "cache", 10**6, caches.MemoryCache(10))


def test_gives_back_what_was_put_in(cache):
    cache.put_many({b"a": b"1" * 40, b"b": b""})
    assert cache.get_many([b"a", b"b", b"c"]) == {b"a": b"1" * 40, b"b": b""}
    assert cache.get_many([]) == {}
    info = cache.info()
    # A layered one counts what its fast layer did not hold
    assert info.hits in {1, 2}
    assert (info.misses, info.entries) == (1, 2)


def test_many_entries_at_once(cache):
    entries = {b"%d" % i: b"%d" % (i * i) for i in range(2000)}
    cache.put_many(entries)
    assert cache.get_many(list(entries)) == entries


def test_memory_keeps_to_its_bytes_and_forgets_the_least_recently_used():
    cache = caches.MemoryCache(120)
    for name in (b"a", b"b", b"c"):
        cache.put_many({name: b"x" * 40})
    cache.get_many([b"a"])
    cache.put_many({b"d": b"x" * 40})
    assert list(cache.get_many([b"a", b"b", b"c", b"d"])) == [b"a", b"c", b"d"]
    cache.put_many({b"e": b"x" * 121})
    assert cache.info().n_bytes <= 120


@pytest.mark.parametrize("other", [(b"model", b"13"), (b"model", b"1"), (b"mode", b"l12")])
def test_keys_tell_contexts_and_contents_apart(other):
    cache = caches.VectorCache(memory=caches.MemoryCache(10))
    assert cache.key(b"model", b"12") == cache.key(b"model", b"12")
    assert cache.key(b"model", b"12") != cache.key(*other)
    # Another process has another secret
    assert cache.key(b"model", b"12") != caches.VectorCache(memory=caches.MemoryCache(10)).key(
        b"model", b"12"
    )


# The folder


def test_the_folder_keeps_to_its_bytes_and_drops_what_was_used_least_recently(
    tmp_path, monkeypatch
):
    cache = caches.FolderCache(tmp_path, 200_000)
    clock = iter(range(10**6, 10**9, 10**4))
    monkeypatch.setattr(caches.time, "time", lambda: next(clock))
    cache.put_many({b"kept": b"x" * 1500})
    for i in range(200):
        cache.put_many({b"%d" % i: b"x" * 1500})
        assert cache.get_many([b"kept"])
    assert cache.info().n_bytes <= 200_000
    assert (tmp_path / "vectors.sqlite").stat().st_size <= 250_000
    assert not cache.get_many([b"0"])
    assert cache.get_many([b"199"])


def test_another_opening_reads_the_same_entries_with_the_same_secret(tmp_path):
    first = caches.FolderCache(tmp_path, 10**6)
    first.put_many({b"a": b"1"})
    second = caches.FolderCache(tmp_path, 10**6)
    assert second.secret == first.secret
    assert second.get_many([b"a"]) == {b"a": b"1"}


def test_the_folder_is_for_its_owner_alone(tmp_path):
    folder = tmp_path / "parent" / "cache"
    caches.FolderCache(folder, 10**6).put_many({b"a": b"1"})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {file.name for file in files} >= {"key", "vectors.sqlite"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_torn_entry_is_no_entry(tmp_path):
    cache = caches.FolderCache(tmp_path, 10**6)
    cache.put_many({b"a": b"123", b"b": b"456"})
    with sqlite3.connect(tmp_path / "vectors.sqlite") as connection:
        connection.execute("UPDATE entries SET value = x'00' WHERE key = ?", (b"a",))
    connection.close()
    assert cache.get_many([b"a", b"b"]) == {b"b": b"456"}
    cache.put_many({b"a": b"123"})
    assert cache.get_many([b"a"]) == {b"a": b"123"}


@pytest.mark.parametrize("rubbish", [b"not sqlite" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_file_is_begun_anew(tmp_path, rubbish):
    (tmp_path / "vectors.sqlite").write_bytes(rubbish)
    cache = caches.FolderCache(tmp_path, 10**6)
    assert cache.get_many([b"a"]) == {}
    cache.put_many({b"a": b"1"})
    assert cache.get_many([b"a"]) == {b"a": b"1"}


def test_a_key_of_the_wrong_size_is_refused(tmp_path):
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(ValueError, match="5 bytes"):
        caches.FolderCache(tmp_path, 10**6)


def test_a_cache_that_cannot_be_used_does_not_stop_the_work(tmp_path):
    cache = caches.FolderCache(tmp_path, 10**6)
    (tmp_path / "vectors.sqlite").mkdir()
    with pytest.warns(UserWarning, match="could not be used"):
        assert cache.get_many([b"a"]) == {}


WRITE = """
import sys
from pathlib import Path
from sklearn_medfuse.notes._language_model.cache import FolderCache
cache = FolderCache(Path(sys.argv[1]), 10**8)
for i in range(100):
    cache.put_many({sys.argv[2].encode() + b"%d" % i: cache.secret * 20})
"""


@pytest.mark.slow
def test_processes_that_write_together_lose_nothing(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / "cache"), name])
        for name in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    cache = caches.FolderCache(tmp_path / "cache", 10**8)
    keys = [b"%s%d" % (name, i) for name in (b"a", b"b") for i in range(100)]
    found = cache.get_many(keys)
    assert len(found) == 200
    assert set(found.values()) == {cache.secret * 20}


# The encoder's use of it


def test_a_later_process_finds_the_vectors_in_the_folder(
    note_encoder, notes, embedded, tmp_path, forget
):
    first = note_encoder(cache=tmp_path).fit_transform(notes)
    assert embedded
    embedded.clear()
    forget()  # As in another process
    encoder = note_encoder(cache=str(tmp_path))
    np.testing.assert_array_equal(encoder.fit_transform(notes), first)
    assert embedded == []
    assert encoder.cache_info().hits > 0


@pytest.mark.slow
def test_workers_that_write_together_give_what_one_gives(note_encoder, tmp_path, own_workers):
    # Both workers embed the sections that all the notes share, and some of their own
    notes = [[f"Seen in clinic {i}.\n\nDenies pain {j}." for j in range(20)] for i in range(4)]
    expected = [note_encoder().fit_transform(some) for some in notes]
    encoder = note_encoder(cache=tmp_path, batch_tokens=64)
    found = joblib.Parallel(2)(joblib.delayed(encoder.fit_transform)(some) for some in notes)
    np.testing.assert_array_equal(found, expected)
    with sqlite3.connect(tmp_path / "vectors.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # 4 clinics and 20 pains, each as a piece of text and as a vector
        assert connection.execute("SELECT COUNT(*) FROM entries").fetchone() == (2 * 24,)
    connection.close()


def test_damaged_entries_are_embedded_again(note_encoder, notes, embedded, tmp_path, forget):
    encoder = note_encoder(cache=tmp_path)
    first = encoder.fit_transform(notes)
    n_embedded = len(embedded)
    with sqlite3.connect(tmp_path / "vectors.sqlite") as connection:
        connection.execute("UPDATE entries SET value = substr(value, 1, 20)")
    connection.close()
    forget()
    np.testing.assert_array_equal(encoder.transform(notes), first)
    assert len(embedded) == 2 * n_embedded
    forget()
    np.testing.assert_array_equal(encoder.transform(notes), first)
    assert len(embedded) == 2 * n_embedded


def test_the_folder_holds_no_text(note_encoder, tmp_path):
    note_encoder(cache=tmp_path).fit_transform([f"Seen by {CANARY}."])
    caches.open_folder_cache(tmp_path, 2**30)._close()
    assert CANARY.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize("other", [{"pooling": "cls"}, {"dtype": "bfloat16"}, {"prompt": "a "}])
def test_other_settings_do_not_share_entries(note_encoder, notes, embedded, tmp_path, other):
    note_encoder(cache=tmp_path).fit_transform(notes)
    n_chunks = len(embedded)
    note_encoder(cache=tmp_path, **other).fit_transform(notes)
    assert len(embedded) == 2 * n_chunks


def test_a_shuffled_grid_search_embeds_each_distinct_chunk_once(note_encoder, embedded):
    rng = np.random.default_rng(0)
    words = ["pain", "cough", "fever", "none"]
    notes = [" ".join(rng.choice(words, 3)) + "\n\nsame section" for _ in range(40)]
    search = GridSearchCV(
        make_pipeline(note_encoder(), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
        cv=KFold(5, shuffle=True, random_state=0),
        error_score="raise",
    )
    search.fit(notes, np.arange(40) % 2)
    assert len(embedded) == len({tuple(chunk) for chunk in embedded})
    assert len(embedded) == len({part for note in notes for part in note.split("\n\n")})
