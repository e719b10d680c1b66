"""How much of a page it has said before: Gopher's repetition (arXiv 2112.11446, table A1), for many pages at once.

A run of n words is a repeat where the same run stood earlier in the text; a word in two repeats is counted once. The
share is of the characters of all words. Runs are compared by 64-bit hashes of which a sort keeps about 44 bits: one
false repeat in some billion pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from persona_hub.core.page_stats import Hashes, Ints, Marks, PageStats, sum_values
from persona_hub.core.verdict import Rejection
from persona_hub.settings import PageRuleSettings

SHORT_LINE = 30
"""Characters of a line that FineWeb calls short (arXiv 2406.17557, section 3.6): a label, which may repeat."""

TOP_RUNS = (2, 3, 4)
DUPLICATE_RUNS = (5, 6, 7, 8, 9, 10)
_STEP = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class _Words:
    """Words of some pages, end to end; `pages` are their places among all, `ends` each word's end of the page."""

    pages: Ints
    hashes: Hashes
    lengths: Ints
    first: Ints
    ends: Ints
    chars: Ints

    def take(self, chosen: Marks) -> _Words:
        if chosen.all():
            return self
        counts = np.diff(self.first)[chosen]
        words = np.repeat(chosen, np.diff(self.first))
        first = np.concatenate(([0], np.cumsum(counts)))
        ends = np.repeat(first[1:], counts)
        return _Words(self.pages[chosen], self.hashes[words], self.lengths[words], first, ends, self.chars[chosen])


def check_repetition(stats: PageStats, judged: Marks, worded: Marks, rules: PageRuleSettings) -> dict[int, Rejection]:
    """`repetition`: repeated lines (by number and by characters), then repeated runs of words.

    Args:
        stats: of n pages.
        judged: n marks of the pages that are still in question.
        worded: n marks of those written with spaces between words; the others are judged by their lines only.

    Returns:
        The pages that are refused, and why.
    """
    refused = _check_lines(stats, judged, rules)
    left = judged & worded & (stats.words > 0)
    left[list(refused)] = False
    ends = np.repeat(stats.word_first[1:], stats.words)
    pages = np.arange(stats.size)
    words = _Words(pages, stats.word_hashes, stats.word_lengths, stats.word_first, ends, stats.word_chars).take(left)
    tops = _check_tops(words, rules)
    duplicates = _check_duplicates(words, rules)
    return refused | duplicates | tops  # the first rule's word counts


def _check_lines(stats: PageStats, judged: Marks, rules: PageRuleSettings) -> dict[int, Rejection]:
    lengths = stats.line_ends - stats.line_starts
    repeats = np.zeros(len(lengths), bool)
    places, repeated = _sort_runs(stats.line_hashes)
    repeats[places[repeated]] = True
    long = lengths > SHORT_LINE
    counted = sum_values(long.astype(np.int64), stats.line_first)
    lines = sum_values((repeats & long).astype(np.int64), stats.line_first) / np.maximum(counted, 1)
    chars = sum_values(lengths * repeats, stats.line_first) / sum_values(lengths, stats.line_first)
    refused = {}
    repetitive = (lines > rules.max_duplicate_lines) | (chars > rules.max_duplicate_line_chars)
    for page in np.flatnonzero(judged & repetitive):
        if lines[page] > rules.max_duplicate_lines:
            refused[int(page)] = Rejection("repetition", f"{lines[page]:.1%} of the lines are repeats")
        else:
            refused[int(page)] = Rejection("repetition", f"{chars[page]:.1%} of the characters are in repeated lines")
    return refused


def _check_tops(words: _Words, rules: PageRuleSettings) -> dict[int, Rejection]:
    refused: dict[int, Rejection] = {}
    ceiling = np.diff(words.first)
    limits = list(zip(TOP_RUNS, rules.max_top_ngrams, strict=True))
    for place, (n, limit) in enumerate(limits):
        # No run is more frequent than the shorter ones in it: most pages need no look at runs of 3 and 4.
        possible = np.zeros(len(words.pages), bool)
        for later, its_limit in limits[place:]:
            possible |= ceiling * _find_longest(words, later) > its_limit * words.chars
        words, ceiling = words.take(possible), ceiling[possible]
        if not len(words.pages):
            break
        counts, chars = _find_top(words, n)
        ceiling = counts
        shares = np.where(counts > 1, counts * chars, 0) / words.chars
        for own in np.flatnonzero(shares > limit).tolist():
            detail = f"{shares[own]:.1%} in one run of {n} words, {counts[own]} times"
            refused.setdefault(int(words.pages[own]), Rejection("repetition", detail))
    return refused


def _check_duplicates(words: _Words, rules: PageRuleSettings) -> dict[int, Rejection]:
    refused: dict[int, Rejection] = {}
    limits = rules.max_duplicate_ngrams
    for place, (n, limit) in enumerate(zip(DUPLICATE_RUNS, limits, strict=True)):
        if not len(words.pages):
            break
        shares = _cover_repeats(words, n) / words.chars
        for page in np.flatnonzero(shares > limit):
            detail = f"{shares[page]:.1%} in repeated runs of {n} words"
            refused[int(words.pages[page])] = Rejection("repetition", detail)
        # A longer repeat is made of shorter ones: what these do not cover, longer ones do not.
        words = words.take((shares <= limit) & (shares > min(limits[place:])))
    return refused


def _find_top(words: _Words, n: int) -> tuple[Ints, Ints]:
    """How often each page's most frequent run stands there, and its characters; of equals, the first in the text."""
    places, repeated = _sort_runs(_hash_runs(words.hashes, n), words.ends, n)
    best = np.ones(len(words.pages), np.int64) << 32
    if len(repeated):
        edges = np.flatnonzero(np.concatenate(([True], np.diff(repeated) > 1)))
        counts = np.diff(np.concatenate((edges, [len(repeated)]))) + 1
        firsts = places[repeated[edges] - 1]
        owners = np.searchsorted(words.first, firsts, "right") - 1
        np.maximum.at(best, owners, (counts << 32) + (1 << 31) - firsts)
    counts = best >> 32
    firsts = np.where(counts > 1, (1 << 31) - (best & ((1 << 32) - 1)), 0)
    running = np.concatenate(([0], np.cumsum(words.lengths)))
    ends = np.minimum(firsts + n, len(words.lengths))
    return counts, running[ends] - running[firsts]


def _find_longest(words: _Words, n: int) -> Ints:
    """At least the characters of each page's longest run of n words."""
    padded = np.concatenate((words.lengths, np.zeros(n, np.int64)))
    runs = sum(padded[start : start + len(words.lengths)] for start in range(n))
    return np.maximum.reduceat(np.asarray(runs), words.first[:-1]) if len(words.pages) else words.pages


def _cover_repeats(words: _Words, n: int) -> Ints:
    """Characters of each page's words that stand in a repeated run of n."""
    places, repeated = _sort_runs(_hash_runs(words.hashes, n), words.ends, n)
    repeats = places[repeated]
    edges = np.zeros(len(words.lengths) + 1, np.int64)
    edges[repeats] += 1
    edges[repeats + n] -= 1
    covered = np.cumsum(edges)[:-1] > 0
    return sum_values(words.lengths * covered, words.first)


def _hash_runs(hashes: Hashes, n: int) -> Hashes:
    """The hash of the run that begins at each word; too near to the end, of what is left."""
    runs = hashes.copy()
    factor = np.uint64(1)
    with np.errstate(over="ignore"):
        for later in range(1, n):
            factor = factor * _STEP
            runs[:-later] += hashes[later:] * factor
    return runs


def _sort_runs(hashes: Hashes, ends: Ints | None = None, n: int = 1) -> tuple[Ints, Ints]:
    """Sorts runs so that equals stand together, in the order of the text.

    Returns:
        The place of each run in the text, and where in this order those stand that equal their left neighbour.
    """
    bits = np.uint64(max(1, len(hashes)).bit_length())
    places = np.arange(len(hashes), dtype=np.uint64)
    # The place goes into the lower bits: one plain sort, which runs in vector registers, instead of an argsort.
    keys = (hashes >> bits << bits) | places
    if ends is not None:
        keys = keys[places.view(np.int64) + n <= ends]
    keys.sort()
    runs = keys >> bits
    repeated = np.flatnonzero(runs[1:] == runs[:-1]) + 1
    return (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64), repeated
