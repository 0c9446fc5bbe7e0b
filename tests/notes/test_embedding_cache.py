"""The cache gives back what was put in, keeps to its bytes and holds no text."""

import numpy as np
import pytest

from sklearn_medfuse.notes._embedding_cache import EmbeddingCache


def vector(value, size=10):
    return np.full(size, value, dtype=np.float32)


def test_gives_back_what_was_put_in():
    cache = EmbeddingCache(1000)
    cache.put(b"a", vector(1))
    np.testing.assert_array_equal(cache.get(b"a"), vector(1))
    assert cache.get(b"b") is None


def test_keeps_to_its_bytes_and_forgets_the_least_recently_used():
    cache = EmbeddingCache(120)
    for name in (b"a", b"b", b"c"):
        cache.put(name, vector(1))
    cache.get(b"a")
    cache.put(b"d", vector(1))
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]


def test_a_vector_larger_than_the_cache_is_not_kept():
    cache = EmbeddingCache(10)
    cache.put(b"a", vector(1))
    assert cache.get(b"a") is None
    cache.put(b"b", vector(1, size=2))
    assert cache.get(b"b") is not None


def test_putting_twice_counts_once():
    cache = EmbeddingCache(80)
    for _ in range(5):
        cache.put(b"a", vector(1))
    cache.put(b"b", vector(2))
    assert cache.get(b"a") is not None


def test_what_is_put_in_is_copied():
    cache = EmbeddingCache(1000)
    mine = vector(1)
    cache.put(b"a", mine)
    mine[:] = 5
    np.testing.assert_array_equal(cache.get(b"a"), vector(1))


def test_clear():
    cache = EmbeddingCache(1000)
    cache.put(b"a", vector(1))
    cache.clear()
    assert cache.get(b"a") is None


@pytest.mark.parametrize("other", [(b"model", [1, 3]), (b"model", [1]), (b"modem", [1, 2])])
def test_keys_tell_models_and_tokens_apart(other):
    cache = EmbeddingCache(10)
    assert cache.key(b"model", [1, 2]) == cache.key(b"model", [1, 2])
    assert cache.key(b"model", [1, 2]) != cache.key(*other)


def test_keys_of_another_cache_cannot_be_guessed():
    assert EmbeddingCache(10).key(b"model", [1]) != EmbeddingCache(10).key(b"model", [1])
