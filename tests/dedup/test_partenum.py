"""PartEnum keys against every pair, one by one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_pairs import THRESHOLDS, compare_all, compare_by_prefix, expand, find, read_rows

from persona_hub.core.words import jaccard, word_set
from persona_hub.dedup import partenum
from persona_hub.dedup.measures import Measure
from persona_hub.dedup.partenum import sign_partenum


@st.composite
def crowds(draw: st.DrawFn) -> list[frozenset[str]]:
    """Sets of so few words that everything collides, many of them a word or two away from another one."""
    words = [f"w{number}" for number in range(draw(st.integers(2, 30)))]
    seed = draw(st.integers(0, 1 << 32))
    rng = np.random.default_rng(seed)
    rows: list[frozenset[str]] = []
    for _ in range(draw(st.integers(2, 40))):
        if rows and rng.random() < 0.6:
            row = rows[rng.integers(len(rows))] ^ frozenset(rng.choice(words, rng.integers(0, 4)).tolist())
        else:
            row = frozenset(rng.choice(words, rng.integers(0, 41)).tolist())
        rows.append(row)
    return rows


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
@settings(max_examples=60, deadline=None)
@given(rows=crowds())
def test_no_pair_is_missed_where_everything_collides(threshold: Fraction, rows: list[frozenset[str]]) -> None:
    found = expand(find(sign_partenum(read_rows(rows), threshold), Measure("jaccard", threshold)), range(len(rows)))
    assert compare_all(rows, threshold) <= found


def make_pair(size: int, threshold: Fraction, rng: np.random.Generator) -> tuple[frozenset[str], frozenset[str]]:
    """Two sets of Jaccard just at the threshold, their difference dealt to both sides at random."""
    words = [f"w{number}" for number in rng.choice(1 << 40, 2 * size + 2, replace=False)]
    shared = -(-size * threshold.numerator // threshold.denominator)
    only_a = int(rng.integers(0, size - shared + 1))
    a, b = frozenset(words[: shared + only_a]), frozenset(words[:shared] + words[shared + only_a : size])
    assert jaccard(a, b) >= float(threshold)
    return a, b


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
def test_pairs_at_the_very_threshold_are_found_at_every_size(threshold: Fraction) -> None:
    rng = np.random.default_rng(5)
    sizes = [*range(1, 40), *range(40, 320, 7), 1_000, 3_001]
    rows = [row for size in sizes for row in make_pair(size, threshold, rng)]
    found = expand(find(sign_partenum(read_rows(rows), threshold), Measure("jaccard", threshold)), range(len(rows)))
    assert {(i, i + 1) for i in range(0, len(rows), 2)} <= found


@pytest.mark.parametrize("threshold", [Fraction("0.8"), Fraction("0.9")], ids=str)
def test_chunks_do_not_show(threshold: Fraction, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    rows = [row for size in rng.integers(0, 90, 60).tolist() for row in make_pair(size + 1, threshold, rng)]
    sets = read_rows([frozenset(), *rows, frozenset()])
    whole = sign_partenum(sets, threshold)
    monkeypatch.setattr(partenum, "_CHUNK", 50)
    for got, expected in zip(sign_partenum(sets, threshold), whole, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_signatures_have_the_promised_shapes() -> None:
    rows = [frozenset(), frozenset({"one"}), frozenset("abcdefghijklm"), frozenset("mlkjihgfedcba"), frozenset()]
    signatures = sign_partenum(read_rows(rows), Fraction("0.9"))
    assert signatures.sizes.tolist() == [0, 1, 13, 13, 0]
    assert np.diff(signatures.starts).tolist() == signatures.probes.tolist() == [0, 1, 2, 2, 0]
    assert signatures.keys[1:3].tolist() == signatures.keys[3:5].tolist()
    assert len(set(signatures.keys.tolist())) == 3
    assert [array.dtype for array in signatures] == [np.int32, *[np.uint64] * 3, np.int64, np.int32]
    nothing = sign_partenum(read_rows([]), Fraction("0.9"))
    assert [array.shape for array in nothing] == [(0,), (0,), (0,), (0,), (1,), (0,)]


@pytest.mark.parametrize(
    ("threshold", "share"), [("0.8", 0.75), ("0.85", 0.5), ("0.9", 0.28), ("0.95", 0.14), ("1.0", 0.0)]
)
def test_keys_stay_few_up_to_100_000_words(threshold: str, share: float) -> None:
    """Each salt deals a set once more: what this bounds is how often that happens."""
    rng = np.random.default_rng(8)
    sizes = [20, 100, 450, 3_000, 100_000]
    sets = read_rows([frozenset(map(str, rng.choice(1 << 40, size, replace=False).tolist())) for size in sizes])
    counts = np.diff(sign_partenum(sets, Fraction(threshold)).starts)
    assert (counts <= share * np.array(sizes) + 3).all(), counts.tolist()


def test_keys_are_those_that_are_stored() -> None:
    """A hub's keys were made by earlier versions: other values would find nothing of what it holds."""
    signatures = sign_partenum(read_rows([frozenset("abcdefghijklm")]), Fraction("0.9"))
    assert [f"{key:016x}" for key in signatures.keys.tolist()] == ["14d279db56d19390", "51e1237eceea0504"]


def test_real_personas_and_their_copies(
    real_personas: Callable[[int], list[str]], make_copies: Callable[[list[str], int, int], list[str]]
) -> None:
    texts, threshold = real_personas(20_000), Fraction("0.9")
    spaced = [text for text in texts if text.count(" ") > 3]
    rows = [word_set(text) for text in texts + make_copies(spaced, 4_000, 11)]
    signatures = sign_partenum(read_rows(rows), threshold)
    expected = compare_by_prefix(rows, threshold)
    found = expand(find(signatures, Measure("jaccard", threshold)), range(len(rows)))
    true = {(i, j) for i, j in found if jaccard(rows[i], rows[j]) >= float(threshold)}
    assert true == expected and len(expected) > 3_000
