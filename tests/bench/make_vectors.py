"""Vectors as a hub of many personas would have: real ones, mixtures of two, and copies with noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COPIES = 0.1  # of the rows
COSINES = (0.85, 0.99)  # of a copy to its source, spread evenly

_CHUNK = 10_000


def make_vectors(base: NDArray[np.float16], rows: int, seed: int) -> NDArray[np.float16]:
    """Makes a corpus; one that is longer begins with the same rows.

    In each chunk of 10,000 rows nine tenths are new meanings (the real vectors while there are any, then mixtures of two)
    and the last tenth are copies of any rows before them, at right angles to their source moved away.

    Args:
        base: (m, d) real vectors, about of length 1.

    Returns:
        (rows, d) of length 1; beside it only a chunk stands in memory.
    """
    vectors = np.empty((rows, base.shape[1]), np.float16)
    order = np.random.default_rng(seed).permutation(len(base))
    for number, start in enumerate(range(0, rows, _CHUNK)):
        rng = np.random.default_rng([seed, number])
        fresh = round(_CHUNK * (1 - COPIES))
        meanings = _make_meanings(base, order, number * fresh, fresh, rng)
        known = min(start + fresh, rows)
        vectors[start:known] = meanings[: known - start]
        copied = min(_CHUNK - fresh, rows - known)
        # Drawn whole, so that a corpus that ends within the chunk begins as a longer one.
        sources = rng.integers(0, start + fresh, _CHUNK - fresh)[:copied]
        cosines = rng.uniform(*COSINES, (_CHUNK - fresh, 1))[:copied]
        noise = rng.standard_normal((_CHUNK - fresh, base.shape[1]), np.float32)[:copied]
        if copied > 0:
            source = _normalize(vectors[sources].astype(np.float32))
            away = _normalize(noise - (noise * source).sum(axis=1, keepdims=True) * source)
            vectors[known : known + copied] = cosines * source + np.sqrt(1 - cosines**2) * away
    return vectors


def _make_meanings(
    base: NDArray[np.float16], order: NDArray[np.int64], first: int, count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Meanings number `first` and following: real vectors in a random order, then mixtures of two."""
    pairs = base[rng.integers(0, len(base), (2, count))].astype(np.float32)
    weights = rng.uniform(0.3, 0.7, (count, 1)).astype(np.float32)
    noise = rng.normal(0, 0.02, (count, base.shape[1])).astype(np.float32)
    meanings = weights * pairs[0] + (1 - weights) * pairs[1] + noise
    real = base[order[first : first + count]]
    meanings[: len(real)] = real
    return _normalize(meanings)


def _normalize(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
