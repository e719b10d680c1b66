"""MinHash with banding: the paper's way to candidate pairs (1-grams, 128 values; PAPER section 2.3).

Two sets of Jaccard J agree in one MinHash value with probability J, so in a whole band of r values with J^r, and
in at least one of b bands with 1 - (1 - J^r)^b (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).
A candidate pair proves nothing: it is verified by exact Jaccard.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.tokens import WordSets
from persona_hub.dedup.word_keys import Signatures, mix, set_hashes, sketches

VALUES = 128
RECALL = 0.9999
_SALT = 0x2545F4914F6CDD1D  # keys are stored beside others: never change
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_TOKENS = 1 << 18  # of the rows that are signed at once: a table of 130 MB where all differ, usually a tenth of it
_ROWS = 512  # rows of values that stay in the processor's cache
_LONG = 1024  # from so many tokens on a set is a block of its own


def choose_bands(threshold: float | Fraction, recall: float = RECALL, values: int = VALUES) -> tuple[int, int]:
    """The most selective (bands, rows a band) of at most `values` that still find a pair at `threshold`.

    Args:
        threshold: Jaccard from which pairs must be found.
        recall: least probability to find a pair that is exactly at the threshold.

    Returns:
        bands and rows with bands * rows <= values; at 0.9 (18, 7).
    """
    fitting = [rows for rows in range(1, values + 1) if expected_recall(threshold, values // rows, rows) >= recall]
    rows = max(fitting, default=1)
    return values // rows, rows


def expected_recall(threshold: float | Fraction, bands: int, rows: int) -> float:
    """Probability that a pair exactly at a threshold is found; those above it are found more often."""
    return float(1 - (1 - float(threshold) ** rows) ** bands)


def sign_minhash(sets: WordSets, threshold: Fraction) -> Signatures:
    """Signs n sets: one key a band, of the band's number and its values. All keys probe; an empty set has none."""
    bands, rows = choose_bands(threshold)
    filled = np.flatnonzero(sets.sizes)
    values = _find_minima(sets, filled, bands * rows)
    keys = np.tile(mix(np.arange(bands, dtype=np.uint64), _SALT), (len(filled), 1))
    for row in range(rows):
        keys = (keys ^ values[:, row::rows]) * _PRIME
    probes = np.where(sets.sizes > 0, bands, 0).astype(np.int32)
    return Signatures(
        sets.sizes.astype(np.int32),
        set_hashes(sets),
        sketches(sets),
        mix(keys).ravel(),
        np.append(0, np.cumsum(probes, dtype=np.int64)),
        probes,
    )


def _find_minima(sets: WordSets, filled: NDArray[np.int64], count: int) -> NDArray[np.uint32]:
    """(k, count) least values of the k rows that have tokens."""
    starts = np.append(sets.starts[filled], len(sets.ids))
    minima = np.empty((len(filled), count), np.uint32)
    low = 0
    while low < len(filled):
        high = max(low + 1, int(np.searchsorted(starts, starts[low] + _TOKENS, "right")) - 1)
        tokens = slice(starts[low], starts[high])
        distinct, places = _number_distinct(sets.ids[tokens])
        table = _value_tokens(sets.hashes[tokens][distinct], count)
        _take_minima(table, places, starts[low : high + 1] - starts[low], minima[low:high])
        low = high
    return minima


def _number_distinct(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One place of each distinct number, and for each place which of those it is; `np.unique` sorts, at ten times the cost."""
    offsets = ids - ids.min()
    places = np.full(int(offsets.max()) + 1, -1)
    places[offsets] = np.arange(len(ids))
    found = np.flatnonzero(places >= 0)
    distinct = places[found]
    places[found] = np.arange(len(found))
    return distinct, places[offsets]


def _take_minima(
    table: NDArray[np.uint32], places: NDArray[np.int64], starts: NDArray[np.int64], minima: NDArray[np.uint32]
) -> None:
    """Fills (k, count) minima of k rows: the i-th tokens of all at once, shorter rows first, so that each i is a block."""
    sizes = np.diff(starts)
    order = np.argsort(sizes, kind="stable")
    short = int(np.searchsorted(sizes[order], _LONG))
    for row in order[short:]:
        minima[row] = table[places[starts[row] : starts[row + 1]]].min(axis=0)
    order = order[:short]
    for low in range(0, len(order), _ROWS):
        rows = order[low : low + _ROWS]
        first, widths = starts[rows], sizes[rows]
        least = table[places[first]]
        for i in range(1, int(widths[-1])):
            longer = int(np.searchsorted(widths, i, "right"))
            np.minimum(least[longer:], table[places[first[longer:] + i]], out=least[longer:])
        minima[rows] = least


def _value_tokens(hashes: NDArray[np.uint64], count: int) -> NDArray[np.uint32]:
    """(k, count) values of k tokens: the upper halves of as many independent mixings of their hashes."""
    salts = mix(np.arange(1, count + 1, dtype=np.uint64), _SALT)
    table = np.empty((len(hashes), count), np.uint32)
    for low in range(0, len(hashes), _ROWS):
        table[low : low + _ROWS] = mix(hashes[low : low + _ROWS, None] ^ salts) >> np.uint64(32)
    return table
