"""Codes: a vector in 48 bytes, of which the differing bits tell the angle.

Each bit says on which side of a random hyperplane through zero the vector lies. Two vectors at an angle differ in each
with probability angle / pi (Charikar 2002). The hyperplanes stand at right angles to each other, in batches of d, which
leaves that probability and makes the count less random (Super-Bit; Ji, Li, Yan, Zhang, Tian, NIPS 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import acos, ceil, floor, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.cosine import multiply_blocks

BITS = 384
WORDS = BITS // 64
FIRST_WORDS = 2
"""Words that are compared for every pair; each other one only for those whose words before it are near."""

_SEED = 20240628  # codes are stored beside others: never change
_SPREADS = 2.5
_COLUMNS = 4096
_PAIRS = 65_536  # at once: what is computed from them stays in a core's own cache


@cache
def _make_hyperplanes(dimensions: int) -> NDArray[np.float32]:
    # RandomState, not Generator: numpy promises the same numbers in every version for the former only.
    random = np.random.RandomState(_SEED)
    batches = []
    for _ in range(ceil(BITS / dimensions)):
        q, r = np.linalg.qr(random.standard_normal((dimensions, dimensions)))
        batches.append(q * np.sign(np.diag(r)))  # the signs are LAPACK's choice otherwise
    return np.ascontiguousarray(np.concatenate(batches, axis=1)[:, :BITS], np.float32)


def make_codes(vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Codes of vectors.

    Args:
        vectors: (n, d) of any length but zero.

    Returns:
        (n, WORDS); the same for a vector whatever the rows beside it.
    """
    codes = np.empty((len(vectors), WORDS), "<u8")
    for start, products in multiply_blocks(vectors, _make_hyperplanes(vectors.shape[1])):
        bits = np.packbits(products > 0, axis=1, bitorder="little")
        codes[start : start + len(products)] = bits.view("<u8")
    return codes


def code_radius(threshold: float, sigmas: float) -> int:
    """Differing bits up to which a pair is a candidate.

    With p = acos(threshold) / pi, a pair at the threshold differs in BITS * p bits on average, with a standard
    deviation of at most sqrt(BITS * p * (1 - p)). It is missed with the probability that a normal variable lies `sigmas`
    above its mean: 1 in 1,300 at 3.2, in 4,300 at 3.5, in 32,000 at 4; a pair above the threshold far less.
    """
    p = acos(threshold) / pi
    return min(BITS, ceil(BITS * p + sigmas * sqrt(BITS * p * (1 - p))))


def word_radii(radius: int) -> list[int]:
    """Bits in which the first 1, 2, .. WORDS words may differ, for codes that may differ in `radius`.

    The differing bits of a pair fall anywhere, so those in the first words are hypergeometric. At the radius itself each
    bound loses a pair in 160; pairs at the threshold lie so far inside that they lose next to nothing more (measured).
    The last one is the radius; for radius BITS, none excludes anything.
    """
    share = radius / BITS
    radii = []
    for first in range(64, BITS + 1, 64):
        spread = sqrt(first * share * (1 - share) * (BITS - first) / (BITS - 1))
        radii.append(min(first, floor(first * share + _SPREADS * spread + 1e-9)))
    return radii


def find_close(
    left: NDArray[np.uint64], right: NDArray[np.uint64], radius: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of codes that differ in at most `radius` bits, and in their first words in at most its `word_radii`.

    Args:
        left, right: (WORDS, u) and (WORDS, v): a word of all rows lies together.

    Yields:
        places in left and in right; at most _PAIRS at once.
    """
    _, first, *others = word_radii(radius)
    for start in range(0, right.shape[1], _COLUMNS):
        columns = right[:, start : start + _COLUMNS]
        height = max(1, _PAIRS // columns.shape[1])
        for top in range(0, left.shape[1], height):
            rows = left[:, top : top + height]
            differing = np.bitwise_count(rows[0, :, None] ^ columns[0])
            for word in range(1, FIRST_WORDS):
                differing += np.bitwise_count(rows[word, :, None] ^ columns[word])
            near = np.flatnonzero(differing <= first)
            if not near.size:
                continue
            i, j = np.divmod(near, differing.shape[1])
            i, j, total = i + top, j + start, differing.ravel()[near].astype(np.int16)
            for word, most in enumerate(others, FIRST_WORDS):
                total += np.bitwise_count(left[word].take(i) ^ right[word].take(j))
                kept = total <= most
                i, j, total = i[kept], j[kept], total[kept]
            yield i, j
