"""The process's vocabulary: a number for each token, exact within the process, and a hash, the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LIMIT = 2**21
"""Tokens after which the vocabulary is emptied: about 300 MB of words."""


class Vocabulary(dict[str, int]):
    """Token to place, 0 for the first. Looking up an unknown token enters it.

    A token's number is its place and `first`. Emptying moves `first`, so that no number is ever given twice: sets read
    before stay what they are, and whoever would compare them with later ones is told by `generation`.
    """

    def __init__(self) -> None:
        self._firsts = [0]
        self._hashes = np.empty(1 << 16, np.uint64)

    def __missing__(self, token: str) -> int:
        place = len(self)
        if place == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
        self._hashes[place] = hash_token(token)
        self[token] = place
        return place

    @property
    def first(self) -> int:
        """The number of the token at place 0."""
        return self._firsts[-1]

    def place(self, tokens: pa.Array) -> NDArray[np.int64]:
        """(k,) places of (k,) tokens."""
        return np.fromiter(map(self.__getitem__, tokens.to_pylist()), np.int64, len(tokens))

    def hash(self, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """(m,) hashes of the tokens at (m,) places."""
        return self._hashes[places]

    def generation(self, number: int) -> int:
        """How often the vocabulary had been emptied when a number was given."""
        return int(np.searchsorted(self._firsts, number, "right")) - 1

    def forget(self) -> None:
        """Empties the vocabulary; what it held gets new numbers."""
        self._firsts.append(self._firsts[-1] + len(self))
        self.clear()


def hash_token(token: str) -> int:
    """64-bit BLAKE2b of a token's UTF-8, read as little-endian; stored, so never to be changed."""
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "little")
