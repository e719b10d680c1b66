"""Places of the sets that stand under one key, in pairs: some thousands at a time, whatever the key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.measures import Measure

_AT_ONCE = 1 << 16  # pairs made at once: few enough to stay in the processor's cache

Pairs = NDArray[np.int64]


class Sets(NamedTuple):
    """Different sets of each key, (k,) each; by key, within it by size, of equal sizes the probing ones first."""

    keys: NDArray[np.int64]  # numbered from 0
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]
    sketches: NDArray[np.uint64]
    are_new: NDArray[np.bool_]
    are_probing: NDArray[np.bool_]


def pair_sets(sets: Sets, measure: Measure) -> Iterator[tuple[Pairs, Pairs]]:
    """Places of two sets of a key, the smaller first, of which it probes and at least one is new."""
    count = len(sets.keys)
    after = np.arange(1, count + 1)
    if measure.kind == "jaccard":
        largest = sets.sizes * measure.threshold.denominator // measure.threshold.numerator
        ends = np.searchsorted(sets.keys << 32 | sets.sizes, sets.keys << 32 | largest, side="right")
    else:
        ends = np.searchsorted(sets.keys, sets.keys, side="right")
    new = np.flatnonzero(sets.are_new)
    # A new set meets all after it, a stored one only the new ones: two stored rows are never made into a pair.
    yield from _pair_places(after, np.where(sets.are_probing & sets.are_new, ends, after))
    before_new, until_new = np.searchsorted(new, after), np.searchsorted(new, ends)
    for a, place in _pair_places(before_new, np.where(sets.are_probing & ~sets.are_new, until_new, before_new)):
        yield a, new[place]


def _pair_places(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[tuple[Pairs, Pairs]]:
    """Each i with each number from begins[i] up to ends[i], at most `_AT_ONCE` pairs at a time."""
    left = np.flatnonzero(ends > begins)
    counts = (ends - begins)[left]
    totals = np.cumsum(counts)
    for start in range(0, int(totals[-1]) if len(left) else 0, _AT_ONCE):
        stop = min(start + _AT_ONCE, int(totals[-1]))
        first, last = np.searchsorted(totals, [start + 1, stop])
        chosen = slice(int(first), int(last) + 1)
        before = totals[chosen] - counts[chosen]
        taken = np.minimum(totals[chosen], stop) - np.maximum(before, start)
        offsets = np.arange(start, stop) - np.repeat(before, taken)
        yield np.repeat(left[chosen], taken), np.repeat(begins[left[chosen]], taken) + offsets


def drop_repeated(pairs: Pairs) -> Pairs:
    """Each pair once, the lower row first, rising."""
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return np.stack([low[is_first], high[is_first]], axis=1)
