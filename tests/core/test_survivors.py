"""The survivor rule: chains by hand, then against an oracle that follows the definition word by word."""

from __future__ import annotations

from functools import cache
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from persona_hub.core.survivors import NOT_YET_PUBLISHED, Pair, Rank, Removal, add_copies, choose_survivors

Similar = dict[frozenset[str], dict[int, float]]  # two rows → similarity by step


def rank_all(**publications: int | None) -> dict[str, Rank]:
    """Ranks of rows that are named like their hashes: a before b."""
    return {row: Rank(number or NOT_YET_PUBLISHED, row, row) for row, number in publications.items()}


def test_a_chain_keeps_both_ends() -> None:
    # a ~ b ~ c, a not like c. b goes for a; c is like b only, and b is gone: c stays. A component would lose it.
    ranks = rank_all(a=None, b=None, c=None)
    pairs = [Pair("b", "c", 0, 0.9), Pair("a", "b", 0, 0.95)]
    assert choose_survivors(ranks, pairs, frozenset()) == [Removal("b", "a", 0, 0.95)]


def test_a_longer_chain_loses_every_second() -> None:
    ranks = rank_all(a=None, b=None, c=None, d=None, e=None)
    pairs = [Pair(x, y, 0, 0.9) for x, y in ("ab", "bc", "cd", "de")]
    assert [one.row_id for one in choose_survivors(ranks, pairs, frozenset())] == ["b", "d"]


def test_publication_goes_before_the_hash() -> None:
    # z is published: though its hash is worst, the new a goes.
    ranks = rank_all(a=None, z=3)
    assert choose_survivors(ranks, [Pair("a", "z", 0, 1.0)], frozenset("z")) == [Removal("a", "z", 0, 1.0)]


def test_a_published_row_of_the_same_slice_outranks_a_later_publication() -> None:
    # A slice run again: its row a is published as number 1, the hub's b came with number 2. Neither goes.
    ranks = rank_all(a=1, b=2)
    assert choose_survivors(ranks, [Pair("a", "b", 0, 1.0)], frozenset("b")) == []


def test_stored_rows_stay_whatever_is_said_of_them() -> None:
    # x and y are both in the hub (its threshold was higher once): neither goes, and both may remove.
    ranks = rank_all(x=1, y=2, n=None)
    pairs = [Pair("x", "y", 0, 0.99), Pair("n", "y", 0, 0.9)]
    assert choose_survivors(ranks, pairs, frozenset("xy")) == [Removal("n", "y", 0, 0.9)]


def test_the_first_step_gets_the_removal_and_the_best_rank_the_credit() -> None:
    # c is like a by vectors, and like b and bb by words: words come first, and of these b ranks best.
    ranks = rank_all(a=None, b=None, bb=None, c=None)
    pairs = [Pair("a", "c", 1, 0.99), Pair("c", "bb", 0, 0.97), Pair("c", "b", 0, 0.91)]
    assert choose_survivors(ranks, pairs, frozenset()) == [Removal("c", "b", 0, 0.91)]


def test_equal_texts_are_ranked_by_id() -> None:
    ranks = {row: Rank(NOT_YET_PUBLISHED, "same", row) for row in ("p/2", "p/10")}
    assert choose_survivors(ranks, [Pair("p/2", "p/10", 0, 1.0)], frozenset()) == [Removal("p/2", "p/10", 0, 1.0)]


def test_a_row_does_not_remove_itself() -> None:
    assert choose_survivors(rank_all(a=None), [Pair("a", "a", 0, 1.0)], frozenset()) == []


def find_kept(ranks: dict[str, Rank], similar: Similar, stored: frozenset[str]) -> set[str]:
    """The definition, by recursion from the row that is asked about: no order of work, no lists."""

    @cache
    def is_kept(row: str) -> bool:
        if row in stored:
            return True
        return not any(
            is_kept(other) for other in ranks if frozenset((row, other)) in similar and ranks[other] < ranks[row]
        )

    return {row for row in ranks if is_kept(row)}


@st.composite
def make_rows(draw: st.DrawFn) -> tuple[list[str], Similar]:
    rows = [f"{place:02}" for place in range(draw(st.integers(2, 9)))]
    similarity = st.dictionaries(st.sampled_from([0, 1]), st.floats(0.9, 1.0), min_size=1)
    chosen = draw(st.lists(st.sampled_from(list(combinations(rows, 2))), unique=True, max_size=20))
    return rows, {frozenset(pair): draw(similarity) for pair in chosen}


def list_pairs(similar: Similar, among: set[str], new: set[str]) -> list[Pair]:
    """Pairs as a comparison gives them: both rows there, one of them new at least, each way or the other."""
    return [
        Pair(*sorted(pair), step, similarity)
        for pair, steps in similar.items()
        if pair <= among and pair & new
        for step, similarity in steps.items()
    ]


@given(make_rows(), st.data())
def test_as_the_definition_says_in_any_order(made: tuple[list[str], Similar], data: st.DataObject) -> None:
    rows, similar = made
    hashes = data.draw(st.permutations(rows))
    publications = data.draw(st.lists(st.sampled_from([None, 1, 2]), min_size=len(rows), max_size=len(rows)))
    stored = frozenset(row for row, number in zip(rows, publications, strict=True) if number and data.draw(st.booleans()))
    ranks = {
        row: Rank(number or NOT_YET_PUBLISHED, text, row)
        for row, text, number in zip(rows, hashes, publications, strict=True)
    }
    pairs = list_pairs(similar, set(rows), set(rows) - stored)
    removals = choose_survivors(ranks, pairs, stored)

    kept = find_kept(ranks, similar, stored)
    assert set(rows) - {one.row_id for one in removals} == kept
    turned = [Pair(b, a, step, similarity) for a, b, step, similarity in data.draw(st.permutations(pairs))]
    assert choose_survivors(ranks, turned + pairs, stored) == removals
    for one in removals:
        assert one.survivor_id in kept
        assert ranks[one.survivor_id] < ranks[one.row_id]
        assert similar[frozenset((one.row_id, one.survivor_id))][one.step] == one.similarity
        rivals = [
            (step, ranks[other])
            for other in kept
            for step in similar.get(frozenset((one.row_id, other)), {})
            if ranks[other] < ranks[one.row_id]
        ]
        assert (one.step, ranks[one.survivor_id]) == min(rivals)


@given(make_rows(), st.data())
def test_slice_by_slice_is_all_at_once(made: tuple[list[str], Similar], data: st.DataObject) -> None:
    rows, similar = made
    hashes = dict(zip(rows, data.draw(st.permutations(rows)), strict=True))
    place = {row: data.draw(st.integers(1, 4)) for row in rows}
    hub: set[str] = set()
    for number in range(1, 5):
        new = {row for row in rows if place[row] == number}
        ranks = {row: Rank(place[row], hashes[row], row) for row in hub}
        ranks |= {row: Rank(NOT_YET_PUBLISHED, hashes[row], row) for row in new}
        removals = choose_survivors(ranks, list_pairs(similar, hub | new, new), frozenset(hub))
        hub |= new - {one.row_id for one in removals}

    at_once = {row: Rank(place[row], hashes[row], row) for row in rows}
    gone = choose_survivors(at_once, list_pairs(similar, set(rows), set(rows)), frozenset())
    assert hub == set(rows) - {one.row_id for one in gone}


@given(make_rows(), st.data())
def test_copies_compared_by_their_best_row_alone(made: tuple[list[str], Similar], data: st.DataObject) -> None:
    originals, similar = made
    copies = {f"{row}+{n}": row for row in originals for n in range(data.draw(st.integers(0, 2)))}
    hashes = dict(zip(originals, data.draw(st.permutations(originals)), strict=True))
    text = {row: row for row in originals} | copies
    ranks = {row: Rank(NOT_YET_PUBLISHED, hashes[text[row]], row) for row in text}
    every_pair = [
        Pair(a, b, step, similarity)
        for a, b in combinations(text, 2)
        for step, similarity in ({0: 1.0} if text[a] == text[b] else similar.get(frozenset((text[a], text[b])), {})).items()
    ]
    all_compared = choose_survivors(ranks, every_pair, frozenset())
    few = choose_survivors(ranks, list_pairs(similar, set(originals), set(originals)), frozenset())
    assert sorted(add_copies(few, copies), key=lambda one: one.row_id) == sorted(all_compared, key=lambda one: one.row_id)
