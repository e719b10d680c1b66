"""What a set of words is stored and looked up by: its hash, its sketch and its keys.

All of it is made of the 64-bit hashes of the tokens and stored beside what other runs have stored, so nothing in this
file may ever give another value: the mixing constants are part of the tables' format.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.tokens import WordSets
from persona_hub.errors import SettingsError

_SET_SALT, _SKETCH_SALT = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
_PARTENUM_FROM = Fraction(17, 20)


class Signatures(NamedTuple):
    """What is stored of n sets.

    Attributes:
        sizes: int32 (n,), distinct words; 0 has no keys.
        set_hashes: uint64 (n,), the same for equal sets.
        sketches: uint64 (n,): two sets differ in at least as many words as their sketches differ in bits.
        keys: uint64 (m,), distinct within a row; those of row i are `keys[starts[i]:starts[i + 1]]`.
        starts: int64 (n + 1,).
        probes: int32 (n,), how many of a row's first keys are probing keys: a candidate pair shares a key that
            probes for at least one of the two.
    """

    sizes: NDArray[np.int32]
    set_hashes: NDArray[np.uint64]
    sketches: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    starts: NDArray[np.int64]
    probes: NDArray[np.int32]


def choose_method(method: str, threshold: Fraction) -> Literal["partenum", "prefix", "minhash"]:
    """How candidates are found: `minhash` as asked for, else the exact way that is faster at a threshold.

    PartEnum cuts a set into as many parts as two similar sets may differ in words, and one: below 0.85 the parts of a
    sentence are single words, and the prefix filter has fewer and rarer keys.

    Raises:
        SettingsError: an unknown method.
    """
    if method == "minhash":
        return "minhash"
    if method == "exact":
        return "partenum" if threshold >= _PARTENUM_FROM else "prefix"
    raise SettingsError(
        f"The dedup method {method!r}", wanted="exact or minhash", cure="correct the setting dedup.method"
    )


def mix(values: NDArray[np.uint64], salt: int = 0) -> NDArray[np.uint64]:
    """Spreads 64-bit values over all their bits, one to one; another salt, an independent spreading.

    The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
    """
    mixed = values + np.uint64(salt)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def sum_rows(values: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) sums modulo 2**64 of (m,) values by row; 0 for an empty one. A sum knows no order."""
    totals = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=totals[1:])
    return totals[starts[1:]] - totals[starts[:-1]]


def xor_rows(values: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) exclusive ors of (m,) values by row; 0 for an empty one."""
    totals = np.zeros(len(values) + 1, np.uint64)
    np.bitwise_xor.accumulate(values, out=totals[1:])
    return totals[starts[1:]] ^ totals[starts[:-1]]


def set_hashes(sets: WordSets) -> NDArray[np.uint64]:
    """(n,) hashes: the sum of the tokens' mixed hashes."""
    return sum_rows(mix(sets.hashes, _SET_SALT), sets.starts)


def sketches(sets: WordSets) -> NDArray[np.uint64]:
    """(n,) sketches: each token flips one of 64 bits, so a word more or less changes at most one bit."""
    return xor_rows(np.uint64(1) << (mix(sets.hashes, _SKETCH_SALT) >> np.uint64(58)), sets.starts)
