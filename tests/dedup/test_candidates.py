"""Records and candidate pairs: what is collapsed, what is compared, and that memory stays bounded."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain_pairs import compare_all, expand, read_rows

from persona_hub.dedup import pair_places
from persona_hub.dedup.candidates import WORD_RECORD, find_candidates, keep_keys, make_records
from persona_hub.dedup.containment import sign_containment
from persona_hub.dedup.measures import Measure
from persona_hub.dedup.partenum import sign_partenum
from persona_hub.dedup.word_keys import Signatures

NINE_TENTHS = Measure("jaccard", Fraction("0.9"))
rows_of_words = st.lists(st.frozensets(st.sampled_from("abcdefghijkl"), min_size=8), max_size=30)


def make_record(
    row: int, key: int, size: int = 10, set_hash: int | None = None, sketch: int = 0, flags: int = 7
) -> tuple[int, ...]:
    return (key, row + 1_000 if set_hash is None else set_hash, sketch, row, size, flags)


def records(*rows: tuple[int, ...]) -> NDArray[np.void]:
    return np.array(list(rows), WORD_RECORD)


def test_records_hold_what_was_signed() -> None:
    signatures = Signatures(
        np.array([3, 0, 5], np.int32), *(np.array(values, np.uint64) for values in ([1, 2, 3], [4, 5, 6], [70, 71, 72])),
        np.array([0, 1, 1, 3]), np.array([1, 0, 1], np.int32),
    )  # fmt: skip
    rows = np.array([-9, 8, 7])
    assert make_records(signatures, rows, True).tolist() == [
        (70, 1, 4, -9, 3, 7),
        (71, 3, 6, 7, 5, 7),
        (72, 3, 6, 7, 5, 1),
    ]
    assert make_records(signatures, rows, False)["flags"].tolist() == [6, 6, 0]


def test_keep_keys_keeps_those_that_new_rows_have() -> None:
    stored = records(*(make_record(row, key) for row, key in enumerate([5, 1, 9, 5, 7])))
    assert keep_keys(stored, np.array([5, 8, 9], np.uint64))["row"].tolist() == [0, 2, 3]
    assert len(keep_keys(stored, np.zeros(0, np.uint64))) == len(keep_keys(stored[:0], np.array([5], np.uint64))) == 0


def test_equal_sets_are_told_once_by_their_lowest_row() -> None:
    """Rows 3, 1 and 2 are equal and share two keys; row 9 has one of them."""
    equal = [make_record(row, key, set_hash=1, flags=flags) for row in (3, 1, 2) for key, flags in ((50, 7), (51, 5))]
    found = find_candidates(records(*equal, make_record(9, 51, flags=5)), NINE_TENTHS)
    assert sorted(found.identical.tolist()) == [[1, 2], [1, 3]]
    assert found.near.tolist() == [[1, 9]]


def test_sets_of_other_sizes_or_sketches_are_not_equal() -> None:
    """A set hash alone proves nothing."""
    same_hash = [
        make_record(1, 5, set_hash=1),
        make_record(2, 5, 11, set_hash=1),
        make_record(3, 5, set_hash=1, sketch=1),
    ]
    found = find_candidates(records(*same_hash), NINE_TENTHS)
    assert not len(found.identical) and found.near.tolist() == [[1, 2], [1, 3], [2, 3]]


@pytest.mark.parametrize(
    ("size", "sketch", "near"),
    [(18, 0b11, False), (18, 0b1, True), (20, 0b11, True), (20, 0b111, False), (21, 0, False), (16, 0, False), (17, 0, True)],
)  # fmt: skip
def test_sizes_and_sketches_rule_out(size: int, sketch: int, near: bool) -> None:
    """Against 18 words, at 0.9: 17 to 20 words; 36 * 0.1 / 1.9 = 1 bit, (18 + 20) * 0.1 / 1.9 = 2 bits."""
    found = find_candidates(records(make_record(1, 5, 18), make_record(2, 5, size, sketch=sketch)), NINE_TENTHS)
    assert found.near.tolist() == [[1, 2]] * near


def test_pairs_have_a_new_group_and_a_probing_key_of_the_smaller() -> None:
    measure = Measure("containment", Fraction("0.8"))
    small, large = make_record(7, 5, 4), make_record(4, 5, 900)
    for small_flags, large_flags, near in [(4, 1, 1), (5, 0, 1), (1, 5, 0), (1, 0, 0), (4, 4, 0), (0, 1, 0), (5, 5, 1)]:
        found = find_candidates(records((*small[:5], small_flags), (*large[:5], large_flags)), measure)
        assert found.near.tolist() == [[4, 7]] * near, (small_flags, large_flags)
    either = find_candidates(records(make_record(7, 5, 4, flags=1), make_record(4, 5, 4, flags=4)), measure)
    assert either.near.tolist() == [[4, 7]]


def test_stored_rows_stand_for_themselves() -> None:
    """Row 1 is stored and may be gone: new row 2, its equal, is compared with everything all the same; so is row 5."""
    equal = [make_record(1, 5, set_hash=1, flags=6), make_record(2, 5, set_hash=1), make_record(5, 5, set_hash=1, flags=6)]
    found = find_candidates(records(*equal, make_record(3, 5, flags=6), make_record(4, 5, flags=6)), NINE_TENTHS)
    assert not len(found.identical) and found.near.tolist() == [[1, 2], [2, 3], [2, 4], [2, 5]]


def test_new_rows_have_a_new_representative_though_a_stored_row_is_lower() -> None:
    equal = [make_record(row, 5, set_hash=1, flags=6 if row == 1 else 7) for row in (1, 4, 2, 3)]
    found = find_candidates(records(*equal), NINE_TENTHS)
    assert sorted(found.identical.tolist()) == [[2, 3], [2, 4]] and found.near.tolist() == [[1, 2]]


@pytest.mark.parametrize("kind", ["jaccard", "containment"])
@settings(max_examples=40, deadline=None)
@given(rows=rows_of_words, data=st.data())
def test_a_slice_meets_what_is_stored(kind: str, rows: list[frozenset[str]], data: st.DataObject) -> None:
    """Any division into new and stored rows, in any numbering and small chunks: every pair with a new row."""
    threshold = Fraction("0.8")
    measure = Measure("jaccard" if kind == "jaccard" else "containment", threshold)
    sign = sign_partenum if kind == "jaccard" else sign_containment
    numbers = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    split = data.draw(st.integers(0, len(rows)))
    stored = make_records(sign(read_rows(rows[:split]), threshold), numbers[:split], False)
    new = make_records(sign(read_rows(rows[split:]), threshold), numbers[split:], True)
    met = keep_keys(stored, np.unique(new["key"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_places, "_AT_ONCE", data.draw(st.integers(1, 50)))
        candidates = find_candidates(np.concatenate([met, new]), measure)
    found = expand(candidates, range(len(rows)))

    def similarity(a: frozenset[str], b: frozenset[str]) -> float:
        return len(a & b) / (len(a | b) if kind == "jaccard" else min(len(a), len(b)))

    pairs = {(int(numbers[i]), int(numbers[j])) for i, j in compare_all(rows, threshold, similarity)}
    is_new = set(numbers[split:].tolist())
    represented = set(candidates.identical[:, 1].tolist())
    assert set(candidates.identical.ravel().tolist()) <= is_new
    assert all(is_new & set(pair) and not represented & set(pair) for pair in candidates.near.tolist())
    assert {(min(pair), max(pair)) for pair in pairs if is_new & set(pair)} <= found


def test_a_million_equal_sets_cost_a_million() -> None:
    many = np.zeros(1_000_000, WORD_RECORD)
    many["row"], many["size"], many["flags"] = np.arange(len(many))[::-1], 10, 7
    found = find_candidates(many, NINE_TENTHS)
    assert not len(found.near) and (found.identical[:, 0] == 0).all()
    assert np.array_equal(np.sort(found.identical[:, 1]), np.arange(1, len(many)))


def test_a_million_equal_stored_sets_cost_a_million() -> None:
    """As a thousand new copies do, of which one is compared."""
    many = np.zeros(1_001_000, WORD_RECORD)
    many["row"], many["size"], many["flags"] = np.arange(len(many)), 10, 6
    many["flags"][-1_000:] = 7
    found = find_candidates(many, NINE_TENTHS)
    assert found.identical.tolist() == [[1_000_000, row] for row in range(1_000_001, 1_001_000)]
    assert np.array_equal(found.near[:, 0], np.arange(1_000_000)) and (found.near[:, 1] == 1_000_000).all()


def test_one_new_row_meets_200_000_stored_ones_under_its_key() -> None:
    """Two stored rows are never made into a pair: 20 thousand millions of them would take minutes."""
    many = np.zeros(200_001, WORD_RECORD)
    many["row"] = many["set_hash"] = np.arange(len(many))
    many["size"], many["flags"] = 30, 6
    many["flags"][77_777] |= 1
    found = find_candidates(many, NINE_TENTHS)
    assert len(found.near) == 200_000 and (found.near == 77_777).any(axis=1).all()


def test_a_huge_key_runs_in_bounded_memory() -> None:
    """18 million pairs of 6,000 sets, which would be 288 MB as pairs alone; sketches leave few of them."""
    rng = np.random.default_rng(1)
    many = np.zeros(6_000, WORD_RECORD)
    many["row"] = many["set_hash"] = np.arange(len(many))
    many["sketch"], many["size"], many["flags"] = rng.integers(0, 1 << 63, len(many)), 30, 7
    many["sketch"][5] = many["sketch"][4_321] ^ np.uint64(5)
    tracemalloc.start()
    try:
        found = find_candidates(many, NINE_TENTHS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.near.tolist() == [[5, 4_321]]
    assert peak < 32 << 20
