"""What the page rules count, for many texts at once: characters, lines and words as numpy arrays, no loop over words.

The texts (normalized, not empty) are laid end to end as code points. A line or word is a pair of positions there; its
hash comes out of one running sum over all characters, as Rabin and Karp roll theirs: with
S(i) = c(0) + c(1)·B + … + c(i-1)·B^(i-1) modulo 2^64, the hash of [a, b) is (S(b) - S(a)) · B^(-a).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persona_hub.core.text import UNSPACED_WEIGHT, find_unspaced

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Marks = NDArray[np.bool_]

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_SPACE, _LETTER, _DIGIT, _UNSPACED, _HANGUL, _BULLET = (1 << bit for bit in range(6))
# Gopher names none; these are what browsers and authors draw. A hyphen opens a dialogue in many languages, but then
# not nine lines of ten.
_BULLETS = "•‣▪▫◦●○■□►▸·*-–"
_LAST = 0x40000  # letters beyond: none


@dataclass(frozen=True, slots=True)
class PageStats:
    """Arrays over the characters, lines and words of n texts; `x_first` has n + 1 places, the last is the end."""

    size: int
    starts: Ints
    line_starts: Ints
    line_ends: Ints
    line_first: Ints
    line_weights: Ints
    line_hashes: Hashes
    """Equal lines of one text have equal hashes; lines of two texts never have. So with words."""
    weights: Ints
    """Characters of each text as `core.text.weigh_chars` counts them."""
    unspaced: Ints
    hangul: Ints
    bullets: Ints
    ellipsis_lines: Ints
    word_lengths: Ints
    word_first: Ints
    word_hashes: Hashes
    alphabetic: Ints
    """Words of each text with a letter in them."""
    word_chars: Ints

    @property
    def lines(self) -> Ints:
        return np.diff(self.line_first)

    @property
    def words(self) -> Ints:
        return np.diff(self.word_first)


def measure_pages(texts: Sequence[str]) -> PageStats:
    """Counts characters, lines and words of the texts.

    Args:
        texts: normalized by `core.text.normalize_whitespace`; none of them empty.
    """
    codes = np.frombuffer(("\n" + "\n".join(texts) + "\n").encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = _classify_chars()[codes]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    bounds = np.concatenate(([1], 1 + np.cumsum(lengths + 1)))
    starts = bounds[:-1]

    breaks = np.flatnonzero(codes == 10)
    line_starts, line_ends = breaks[:-1] + 1, breaks[1:]
    line_first = np.searchsorted(line_starts, bounds)
    unspaced = _running_count(classes & _UNSPACED)
    lines_unspaced = unspaced[line_ends] - unspaced[line_starts]

    spaces = (classes & _SPACE) != 0
    word_starts = np.flatnonzero(spaces[:-1] & ~spaces[1:]) + 1
    word_ends = np.flatnonzero(~spaces[:-1] & spaces[1:]) + 1
    kinds = np.bitwise_or.reduceat(classes, word_starts) if len(word_starts) else classes[:0]
    spoken = (kinds & (_LETTER | _DIGIT)) != 0  # a lone bullet or bar is no word
    word_starts, word_ends, kinds = word_starts[spoken], word_ends[spoken], kinds[spoken]
    word_first = np.searchsorted(word_starts, bounds)
    letters = _running_count(kinds & _LETTER)
    word_lengths = word_ends - word_starts

    sums, inverses = _sum_hashes(codes)
    dots = codes == ord(".")
    last = line_ends - 1
    ellipsis = (codes[last] == ord("…")) | (
        dots[last] & dots[last - 1] & dots[last - 2] & (line_ends - line_starts >= 3)
    )
    page_unspaced = unspaced[bounds[1:] - 1] - unspaced[starts]
    hangul = _running_count(classes & _HANGUL)
    return PageStats(
        size=len(texts),
        starts=starts,
        line_starts=line_starts,
        line_ends=line_ends,
        line_first=line_first,
        line_weights=line_ends - line_starts + (UNSPACED_WEIGHT - 1) * lines_unspaced,
        line_hashes=_hash_spans(sums, inverses, line_starts, line_ends, line_first),
        weights=lengths + (UNSPACED_WEIGHT - 1) * page_unspaced,
        unspaced=page_unspaced,
        hangul=hangul[bounds[1:] - 1] - hangul[starts],
        bullets=_sum_spans(_running_count(classes[line_starts] & _BULLET), line_first),
        ellipsis_lines=_sum_spans(_running_count(ellipsis), line_first),
        word_lengths=word_lengths,
        word_first=word_first,
        word_hashes=_hash_spans(sums, inverses, word_starts, word_ends, word_first),
        alphabetic=_sum_spans(letters, word_first),
        word_chars=sum_values(word_lengths, word_first),
    )


def sum_values(values: Ints, first: Ints) -> Ints:
    """Sums the values of each span; an empty span gives 0."""
    return _sum_spans(np.concatenate(([0], np.cumsum(values))), first)


def _sum_spans(running: Ints, first: Ints) -> Ints:
    return running[first[1:]] - running[first[:-1]]


def _running_count(marks: NDArray[np.integer[Any]] | Marks) -> Ints:
    counts = np.zeros(len(marks) + 1, np.int64)
    if marks.any():  # most texts have no Hangul, many not one Han character
        np.cumsum(marks != 0, out=counts[1:])
    return counts


def _hash_spans(sums: Hashes, inverses: Hashes, starts: Ints, ends: Ints, first: Ints) -> Hashes:
    spans = (sums[ends] - sums[starts]) * inverses[starts]
    # A running sum is linear in its characters: murmur's finish, or runs of words would collide.
    spans = (spans ^ (spans >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    spans = (spans ^ (spans >> np.uint64(29))) * np.uint64(0xC4CEB9FE1A85EC53)
    # Another number for each text, so that texts can be compared with themselves in one sort of all.
    return spans + np.repeat(np.arange(1, len(first), dtype=np.uint64) * np.uint64(_BASE), np.diff(first))


def _sum_hashes(codes: NDArray[np.uint32]) -> tuple[Hashes, Hashes]:
    powers, inverses = _raise_base(max(1 << 17, 1 << len(codes).bit_length()))
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint32(1)) * powers[: len(codes)], out=sums[1:])
    return sums, inverses


@cache
def _raise_base(size: int) -> tuple[Hashes, Hashes]:
    def raise_all(base: int) -> Hashes:
        powers = np.full(size, base, np.uint64)
        powers[0] = 1
        return np.cumprod(powers, dtype=np.uint64)

    return raise_all(_BASE), raise_all(_INVERSE)


@cache
def _classify_chars() -> NDArray[np.uint8]:
    table = np.zeros(0x110000, np.uint8)
    for code in range(_LAST):
        char = chr(code)
        if char.isalnum():
            table[code] = _LETTER if char.isalpha() else _DIGIT
        elif char.isspace():
            table[code] = _SPACE
    table[0xAC00:0xD7A4] |= _HANGUL
    for char in _BULLETS:
        table[ord(char)] |= _BULLET
    for code in find_unspaced("".join(map(chr, range(_LAST)))):
        table[code] |= _UNSPACED
    return table
