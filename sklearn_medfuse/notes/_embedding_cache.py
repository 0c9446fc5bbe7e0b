"""Chunk embeddings of this process, so that cross-validation embeds each chunk once."""

import hashlib
import secrets
import threading
from collections import OrderedDict

import numpy as np


class EmbeddingCache:
    """Least-recently-used store of vectors, bounded by bytes.

    Keys are keyed hashes with a key of this process, so nothing of the text is held.

    Parameters
    ----------
    max_bytes : int
        Size of the vectors at most.

    Examples
    --------
    >>> import numpy as np
    >>> cache = EmbeddingCache(max_bytes=1000)
    >>> key = cache.key(b"model", [101, 7592, 102])
    >>> cache.get(key) is None
    True
    >>> cache.put(key, np.ones(3, dtype=np.float32))
    >>> cache.get(key).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._secret = secrets.token_bytes(32)
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def key(self, context: bytes, tokens: list[int]) -> bytes:
        """Key of a chunk under a model and its settings."""
        digest = hashlib.blake2b(np.asarray(tokens, dtype=np.uint32).tobytes(), key=self._secret)
        digest.update(context)
        return digest.digest()

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the vector of a chunk, None when it is not held."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
            return vector

    def put(self, key: bytes, vector: np.ndarray) -> None:
        """Keep the vector of a chunk, at the cost of the least recently used ones."""
        with self._lock:
            if key in self._vectors:
                return
            self._vectors[key] = vector.copy()
            self._bytes += vector.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._vectors.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._vectors.clear()
            self._bytes = 0


# 256 MiB hold 170,000 chunks of a 384-wide model
process_cache = EmbeddingCache(2**28)
