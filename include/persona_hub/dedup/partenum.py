"""Keys by partition: similar sets differ in few words, so of many parts of the two, one at least is the same.

PartEnum (Arasu, Ganti, Kaushik: Efficient Exact Set-Similarity Joins, VLDB 2006), its first level. Jaccard >= t bounds
the symmetric difference of two sets by d = floor((|A| + |B|) (1 - t) / (1 + t)) words. A hash deals each set's words
into d + 1 parts; each word that is not in both spoils one part, so one part is identical, and its hash is a shared key.

Sizes fall into intervals from l to floor(l / t) or above, each with the bound d of its two largest sets. Whatever is
similar to a set lies in its own interval or in one beside it; a set emits for its own and, where it has partners
there, for the next, so that two similar sets always have a bound in common.

A part without words is no evidence: half of all short sets would share it. So it gives no key; instead, with e spare
parts (d + 1 + e in all, so that e + 1 are identical), a set of more than e empty parts is dealt once more with
another salt, and so on; at the last salt its empty parts give keys too. No pair is lost: if none of the identical
parts of a salt has words, both sets have more than e empty ones, so both go on to the next salt, where the same
holds; and at the last one, an empty part that both have is a key that both have.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.tokens import WordSets
from persona_hub.dedup.word_keys import Signatures, mix, set_hashes, sketches

_WORD_SALT, _KEY_SALT = 0xA0761D6478BD642F, 0xE7037ED1A0B428DB  # stored keys depend on them: never change
_DEALS = tuple(
    np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
)
_SPARE = 8  # one part in so many is spare: without, of 100 parts one is nearly always empty
_CHUNK = 1 << 18  # tokens signed at once: what is made of them stays in the processor's cache


class _Cuts(NamedTuple):
    """Sets to be cut, a set twice where it emits for two bounds: (k,) places of the sets, rising, and their bounds."""

    rows: NDArray[np.int64]
    bounds: NDArray[np.int64]


def sign_partenum(sets: WordSets, threshold: Fraction) -> Signatures:
    """Signs n sets for Jaccard >= threshold; two sets so similar share a key, whatever their sizes.

    At 0.9 a set of up to 8 words has one key, one of 10 to 17 has two, one of s words about s / 4 at most; all of them
    probe. The time is a few passes over the words, however many the parts are.
    """
    sizes = sets.sizes
    firsts = np.flatnonzero(np.diff(sets.starts[:-1] // _CHUNK, prepend=-1))
    counts, keys = [], []
    for first, last in pairwise([*firsts, len(sizes)]):
        begin, end = sets.starts[first], sets.starts[last]
        words = mix(sets.hashes[begin:end], _WORD_SALT)
        rows, made = _cut(words, sets.starts[first : last + 1] - begin, threshold)
        counts.append(np.bincount(rows, minlength=last - first))
        keys.append(made)
    per_row = np.concatenate([np.zeros(1, np.int64), *counts])
    return Signatures(
        sizes=sizes.astype(np.int32),
        set_hashes=set_hashes(sets),
        sketches=sketches(sets),
        keys=np.concatenate([np.zeros(0, np.uint64), *keys]),
        starts=np.cumsum(per_row),
        probes=per_row[1:].astype(np.int32),
    )


def _cut(
    words: NDArray[np.uint64], starts: NDArray[np.int64], threshold: Fraction
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(m,) keys of these sets and the (m,) places of the sets that they are of, rising."""
    cuts, found = _choose_bounds(np.diff(starts), threshold), []
    for salt in range(len(_DEALS)):
        cuts, rows, keys = _deal(words, starts, cuts, salt)
        found.append((rows, keys))
        if not len(cuts.rows):
            break
    rows, keys = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(found) > 1:
        order = np.argsort(rows, kind="stable")
        rows, keys = rows[order], keys[order]
    return rows, keys


def _deal(
    words: NDArray[np.uint64], starts: NDArray[np.int64], cuts: _Cuts, salt: int
) -> tuple[_Cuts, NDArray[np.int64], NDArray[np.uint64]]:
    """Deals each set's words into parts: what must be dealt once more, and the keys' sets and keys."""
    sizes = np.diff(starts)[cuts.rows]
    spare = cuts.bounds // _SPARE
    parts = cuts.bounds + 1 + spare
    ends = np.cumsum(parts)
    # Every part of every set has its place in one long array, to which the words are added: no loop over parts.
    taken = words[_ranges(starts[cuts.rows], sizes)]
    part = ((taken * _DEALS[salt]) >> np.uint64(32)) * np.repeat(parts.astype(np.uint64), sizes) >> np.uint64(32)
    places = part.astype(np.int64) + np.repeat(ends - parts, sizes)
    total = int(parts.sum())
    sums = np.zeros(total, np.uint64)
    np.add.at(sums, places, taken)
    has_words = np.bincount(places, minlength=total) > 0
    again = np.add.reduceat(~has_words, ends - parts, dtype=np.int64) > spare if total else np.zeros(0, np.bool_)
    names = _ranges(np.zeros(len(parts), np.int64), parts) + np.repeat((cuts.bounds << 20 | salt) << 20, parts)
    emitted = has_words if salt < len(_DEALS) - 1 else has_words | np.repeat(again, parts)
    keys = mix(sums[emitted] ^ mix(names[emitted].astype(np.uint64), _KEY_SALT))
    return _Cuts(cuts.rows[again], cuts.bounds[again]), np.repeat(cuts.rows, parts)[emitted], keys


def _choose_bounds(sizes: NDArray[np.int64], threshold: Fraction) -> _Cuts:
    """Bounds that each set emits for: its own interval's and, where it can have partners there, the next one's."""
    largest = _divide_sizes(threshold, 1 << int(sizes.max(initial=1)).bit_length())
    own = np.searchsorted(largest, sizes)
    # Both sides of a pair emit for the bound of the larger one's interval: the smaller one reaches it.
    reaches = sizes * threshold.denominator // threshold.numerator > largest[own]
    bound = 2 * largest * (threshold.denominator - threshold.numerator) // (threshold.denominator + threshold.numerator)
    both = np.stack([bound[own], bound[own + 1]], axis=1)
    wanted = np.stack([sizes > 0, reaches & (both[:, 0] < both[:, 1]) & (sizes > 0)], axis=1)
    return _Cuts(np.nonzero(wanted)[0], both[wanted])


@lru_cache(maxsize=64)
def _divide_sizes(threshold: Fraction, enough: int) -> NDArray[np.int64]:
    """The largest size of each interval, from 1 on, until one whole interval lies beyond `enough` words."""
    numerator, whole = threshold.denominator - threshold.numerator, threshold.denominator + threshold.numerator
    largest, beyond = [0], 0
    while beyond < 2:
        end = (largest[-1] + 1) * threshold.denominator // threshold.numerator
        bound = 2 * end * numerator // whole
        # All the sizes that have this bound: a wider interval costs nothing, and has fewer sets near its end.
        largest.append(((bound + 1) * whole - 1) // (2 * numerator) if numerator else enough + len(largest))
        beyond += largest[-1] > enough
    return np.array(largest, np.int64)


def _ranges(firsts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers first, first + 1, … of each range, one range after the other."""
    return np.arange(int(lengths.sum())) + np.repeat(firsts - np.cumsum(lengths) + lengths, lengths)
