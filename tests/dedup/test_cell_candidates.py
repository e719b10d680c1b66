"""Candidates in cells against a brute-force oracle, with so few texts, cells and codes that everything collides."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.dedup.cell_candidates import (
    CODE_RECORD,
    IS_HOME,
    IS_NEW,
    Records,
    collapse_texts,
    find_between,
    find_everywhere,
)
from persona_hub.dedup.codes import WORDS, word_radii

Pairs = set[tuple[int, int]]
FEW_CODES = np.zeros((4, WORDS), np.uint64)
FEW_CODES[1] = 0x0F0F  # eight bits a word from the first: 48
FEW_CODES[2] = 0xFFFF  # as many from the second, and 96 from the first
FEW_CODES[3] = ~np.uint64(0)
RADII = [0, 60, 110, 384]


class Text(NamedTuple):
    cells: list[int]  # home first
    code: int


class Row(NamedTuple):
    number: int
    text: int
    is_new: bool


class Corpus(NamedTuple):
    texts: list[Text]
    rows: list[Row]


@st.composite
def corpora(draw: st.DrawFn, cells: int = 3) -> Corpus:
    text = st.builds(Text, st.permutations(range(cells)).map(lambda all_cells: all_cells[:2]), st.integers(0, 3))
    texts = draw(st.lists(text, min_size=1, max_size=5))
    kinds = draw(st.lists(st.tuples(st.integers(0, len(texts) - 1), st.booleans()), max_size=14))
    numbers = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(kinds), max_size=len(kinds), unique=True))
    return Corpus(texts, [Row(number, *kind) for number, kind in zip(numbers, kinds, strict=True)])


def make_records(corpus: Corpus, rows: Iterable[Row]) -> Records:
    """In an order that tells nothing: by the row's last bits."""
    records = [
        (cell, row.is_new * IS_NEW + (place == 0) * IS_HOME, row.text * 7 - 9, row.number, FEW_CODES[text.code])
        for row in sorted(rows, key=lambda row: (row.number % 97, row.number))
        for text in [corpus.texts[row.text]]
        for place, cell in enumerate(text.cells)
    ]
    return np.array(records, CODE_RECORD)


def is_close(a: Text, b: Text, radius: int) -> bool:
    differing = np.bitwise_count(FEW_CODES[a.code] ^ FEW_CODES[b.code]).astype(int).cumsum()
    return bool((differing <= word_radii(radius)).all())


def divide(corpus: Corpus) -> tuple[list[Row], list[Row]]:
    return [row for row in corpus.rows if row.is_new], [row for row in corpus.rows if not row.is_new]


def find_by_hand(corpus: Corpus, radius: int) -> Pairs:
    """New and stored rows near each other, the home of one among the other's cells."""
    found = set()
    for one, other in product(*divide(corpus)):
        a, b = corpus.texts[one.text], corpus.texts[other.text]
        if (a.cells[0] in b.cells or b.cells[0] in a.cells) and is_close(a, b, radius):
            found.add((one.number, other.number))
    return found


def expand(identical: Iterable[Iterable[int]], near: Iterable[Iterable[int]]) -> Pairs:
    """What is found: a new row stands for those of its text."""
    behind: dict[int, set[int]] = {}
    for one, other in identical:
        behind.setdefault(one, set()).add(other)
    return {(row, stored) for one, stored in near for row in {one} | behind.get(one, set())}


@settings(deadline=None)  # the machine may be busy
@given(corpora())
def test_texts_collapse_to_their_lowest_rows(corpus: Corpus) -> None:
    records = make_records(corpus, corpus.rows)
    collapsed, identical = collapse_texts(records)
    lowest: dict[int, int] = {}
    for row in sorted(corpus.rows):
        lowest.setdefault(row.text, row.number)
    told = [[lowest[row.text], row.number] for row in corpus.rows if row.number != lowest[row.text]]
    assert sorted(identical.tolist()) == sorted(told)  # each once, though it stands in two cells
    expected = make_records(corpus, (row for row in corpus.rows if row.number in lowest.values()))
    assert sorted(map(bytes, collapsed)) == sorted(map(bytes, expected))
    places = [(cell, flags & IS_HOME == 0) for cell, flags in collapsed[["cell", "flags"]].tolist()]
    assert places == sorted(places)


@settings(deadline=None)  # the machine may be busy
@given(corpora())
def test_each_cell_collapses_alone(corpus: Corpus) -> None:
    """As where cells are brought together by a shuffle: each text is told by its home only."""
    records = make_records(corpus, corpus.rows)
    together, identical = collapse_texts(records)
    apart = [collapse_texts(records[records["cell"] == cell]) for cell in np.unique(records["cell"])]
    assert b"".join(one.tobytes() for one, _ in apart) == together.tobytes()
    assert sorted(pair for _, told in apart for pair in told.tolist()) == sorted(identical.tolist())


@settings(deadline=None)  # the machine may be busy
@given(corpora(), st.sampled_from(RADII), st.lists(st.integers(0, 14), max_size=3))
def test_any_batches_of_stored_rows_give_what_the_oracle_finds(corpus: Corpus, radius: int, cuts: list[int]) -> None:
    new, stored = divide(corpus)
    collapsed, identical = collapse_texts(make_records(corpus, new))
    places = [0, *sorted(cuts), len(stored)]
    between = [find_between(collapsed, make_records(corpus, stored[a:b]), radius) for a, b in pairwise(places)]
    near = [tuple(pair) for pairs in between for pair in pairs.tolist()]
    assert len(near) == len(set(near)) and not {one for one, _ in near} & set(identical[:, 1].tolist())
    assert expand(identical.tolist(), near) == find_by_hand(corpus, radius)


@settings(deadline=None)  # the machine may be busy
@given(corpora(), st.sampled_from(RADII))
def test_each_cell_may_be_looked_at_alone(corpus: Corpus, radius: int) -> None:
    new, stored = (make_records(corpus, rows) for rows in divide(corpus))
    found: Pairs = set()
    identical: list[list[int]] = []
    for cell in np.unique(new["cell"]):
        collapsed, told = collapse_texts(new[new["cell"] == cell])
        identical += told.tolist()
        found |= set(map(tuple, find_between(collapsed, stored[stored["cell"] == cell], radius).tolist()))
    assert expand(identical, found) == find_by_hand(corpus, radius)


@settings(deadline=None)  # the machine may be busy
@given(corpora(cells=2))
def test_one_cell_is_exact(corpus: Corpus) -> None:
    one_cell = Corpus([text._replace(cells=[0]) for text in corpus.texts], corpus.rows)
    new, stored = divide(corpus)
    collapsed, identical = collapse_texts(make_records(one_cell, new))
    found = find_between(collapsed, make_records(one_cell, stored), 384)
    assert expand(identical.tolist(), found.tolist()) == {(a.number, b.number) for a, b in product(new, stored)}


@settings(deadline=None, max_examples=50)
@given(corpora(), corpora(), st.sampled_from(RADII))
def test_everywhere_needs_no_cells(queries: Corpus, others: Corpus, radius: int) -> None:
    whole = Corpus(queries.texts, [row._replace(text=row.text % len(queries.texts)) for row in others.rows])
    left, right = (make_records(queries, corpus.rows) for corpus in (queries, whole))
    left, right = left[left["flags"] & IS_HOME > 0], right[right["flags"] & IS_HOME > 0]
    found = find_everywhere(left, right, radius)
    assert found.dtype == np.int64
    assert sorted(map(tuple, found.tolist())) == sorted(
        (a.number, b.number)
        for a, b in product(queries.rows, whole.rows)
        if a.text != b.text and is_close(queries.texts[a.text], queries.texts[b.text], radius)
    )


def test_nothing() -> None:
    nothing, one = np.zeros(0, CODE_RECORD), np.zeros(1, CODE_RECORD)
    collapsed, identical = collapse_texts(nothing)
    assert (len(collapsed), identical.shape, identical.dtype) == (0, (0, 2), np.int64)
    for found in (find_between(nothing, one, 80), find_between(one, nothing, 80), find_everywhere(nothing, one, 80)):
        assert (found.shape, found.dtype) == ((0, 2), np.int64)


def test_a_million_rows_of_one_text_cost_a_million() -> None:
    """New ones compared with one another would be 500 billion pairs, stored ones with one another too: hours."""
    records = np.zeros(1_000_000, CODE_RECORD)
    records["row"] = np.random.default_rng(1).permutation(1_000_000)
    records["flags"] = IS_HOME | IS_NEW
    other = np.zeros(2, CODE_RECORD)
    other["row"], other["text"], other["flags"], other["code"][1] = [-2, -1], [1, 2], IS_HOME, ~np.uint64(0)
    started = time.process_time()
    collapsed, identical = collapse_texts(records)
    assert collapsed["row"].tolist() == [0] and identical[:, 0].tolist() == [0] * 999_999
    assert np.array_equal(np.sort(identical[:, 1]), np.arange(1, 1_000_000))
    assert find_between(collapsed, other, 10).tolist() == [[0, -2]]
    records["flags"], other["flags"] = IS_HOME, IS_HOME | IS_NEW
    between = find_between(collapse_texts(other)[0], records, 10)
    assert np.array_equal(between[:, 1], np.arange(1_000_000)) and (between[:, 0] == -2).all()
    assert time.process_time() - started < 20
