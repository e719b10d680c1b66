"""Prefix keys against every pair, one by one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_pairs import THRESHOLDS, compare_all, compare_by_prefix, expand, find, read_rows

from persona_hub.core.words import jaccard, word_set
from persona_hub.dedup.measures import Measure
from persona_hub.dedup.prefix import learn_order, sign_prefix

words = st.integers(2, 30).flatmap(
    lambda count: st.frozensets(st.sampled_from([f"w{n}" for n in range(count)]), max_size=40)
)
NO_ORDER = np.zeros(0, np.uint64)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(words, max_size=25), known=st.integers(0, 31))
def test_no_pair_is_missed_whatever_the_order_knows(
    threshold: Fraction, rows: list[frozenset[str]], known: int
) -> None:
    sets = read_rows(rows)
    signatures = sign_prefix(sets, threshold, learn_order(sets, known))
    found = expand(find(signatures, Measure("jaccard", threshold)), range(len(rows)))
    assert compare_all(rows, threshold) <= found


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
def test_pairs_of_long_sets_are_found(threshold: Fraction) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(60):
        size = int(rng.integers(30, 301))
        row = frozenset(f"w{number}" for number in rng.choice(600, size, replace=False))
        changes = int(rng.integers(0, size // 2))
        rows += [row, row ^ frozenset(f"w{number}" for number in rng.choice(600, changes, replace=False))]
    sets = read_rows(rows)
    found = expand(
        find(sign_prefix(sets, threshold, learn_order(sets)), Measure("jaccard", threshold)), range(len(rows))
    )
    expected = compare_all(rows, threshold)
    assert expected <= found and (expected or threshold == 1)


def test_the_order_is_by_falling_frequency() -> None:
    sets = read_rows([frozenset("abc"), frozenset("bc"), frozenset("c"), frozenset()])
    by_word = {word: int(read_rows([frozenset(word)]).hashes[0]) for word in "abc"}
    assert learn_order(sets).tolist() == [by_word["c"], by_word["b"], by_word["a"]]
    assert learn_order(sets, at_most=2).tolist() == [by_word["c"], by_word["b"]]


def test_keys_are_the_rarest_words() -> None:
    """Rows that share frequent words only share no key: of ten words, at 0.9, two are the prefix."""
    common = frozenset(f"common{number}" for number in range(8))
    rows = [common | {f"rare{number}", f"other{number}"} for number in range(50)]
    sets = read_rows(rows)
    order = learn_order(sets, 8)
    signatures = sign_prefix(sets, Fraction("0.9"), order)
    assert np.diff(signatures.starts).tolist() == signatures.probes.tolist() == [2] * 50
    assert len(np.unique(signatures.keys)) == 100
    by_hash = sign_prefix(sets, Fraction("0.9"), NO_ORDER)
    assert len(np.unique(by_hash.keys)) < 100


def test_no_rows_and_no_words_have_no_keys() -> None:
    for rows in ([], [frozenset[str]()], [frozenset[str]()] * 3):
        signatures = sign_prefix(read_rows(rows), Fraction("0.5"), NO_ORDER)
        assert len(signatures.keys) == 0 and signatures.starts.tolist() == [0] * (len(rows) + 1)


def test_keys_are_those_that_are_stored() -> None:
    sets = read_rows([frozenset("abcdefghij")])
    keys = sign_prefix(sets, Fraction("0.9"), learn_order(sets, 9)).keys
    assert [f"{key:016x}" for key in keys.tolist()] == ["0e9f39bc43ac275a", "3a4502548e750d33"]


def test_real_personas_and_their_copies(
    real_personas: Callable[[int], list[str]], make_copies: Callable[[list[str], int, int], list[str]]
) -> None:
    texts, threshold = real_personas(10_000), Fraction("0.8")
    spaced = [text for text in texts if text.count(" ") > 3]
    rows = [word_set(text) for text in texts + make_copies(spaced, 3_000, 12)]
    sets = read_rows(rows)
    expected = compare_by_prefix(rows, threshold)
    found = expand(
        find(sign_prefix(sets, threshold, learn_order(sets)), Measure("jaccard", threshold)), range(len(rows))
    )
    true = {(i, j) for i, j in found if jaccard(rows[i], rows[j]) >= float(threshold)}
    assert true == expected and len(expected) > 2_000
