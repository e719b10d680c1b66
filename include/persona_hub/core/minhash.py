"""MinHash with banding: the paper's way to candidate pairs (1-grams, 128 values; PAPER section 2.3).

Two sets of Jaccard J agree in one MinHash value with probability J, so in a whole band of r values with J^r, and
in at least one of b bands with 1 - (1 - J^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).
A candidate pair proves nothing: it is verified by exact Jaccard.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

VALUES = 128
_SEED = 20240628  # a signature is stored beside others: never change


def choose_bands(threshold: float, recall: float = 0.9999, values: int = VALUES) -> tuple[int, int]:
    """The most selective (bands, rows a band) of at most `values` that still find a pair at `threshold`.

    Args:
        threshold: Jaccard from which pairs must be found.
        recall: least probability to find a pair that is exactly at the threshold.

    Returns:
        bands and rows with bands * rows <= values; at 0.9 (18, 7).
    """
    best = (values, 1)
    for rows in range(1, values + 1):
        bands = values // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            best = (bands, rows)
    return best


def hash_bands(word_sets: Sequence[frozenset[str]], bands: int, rows: int) -> NDArray[np.uint64]:
    """Signs sets and hashes each band of the signature.

    Args:
        word_sets: n sets, none of them empty.

    Returns:
        (n, bands) keys; equal keys in one band make a candidate pair.
    """
    if not word_sets:
        return np.zeros((0, bands), np.uint64)
    digest = RMinHash.digest_matrix_from_token_sets([sorted(words) for words in word_sets], VALUES, _SEED)
    matrix = np.array(digest.to_rows(), np.uint64)
    keys = np.full((len(word_sets), bands), 0xCBF29CE484222325, np.uint64)
    with np.errstate(over="ignore"):
        for row in range(rows):  # FNV-1a over the band's values, all bands at once
            keys = (keys ^ matrix[:, row : bands * rows : rows]) * np.uint64(0x100000001B3)
    return keys
