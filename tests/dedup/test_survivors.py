"""The survivor rule: chains by hand, then against oracles that follow the definition word by word."""

from __future__ import annotations

import random
import time
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_hub.dedup import survivors
from persona_hub.dedup.survivors import StepGraph, choose_survivors

Similar = dict[tuple[int, int], dict[int, float]]  # two rows, the better first → similarity by step
Removals = dict[int, tuple[int, int, float]]  # row → survivor, step, similarity


def make_graph(count: int, pairs: dict[tuple[int, int], float], groups: list[int] | None = None) -> StepGraph:
    return StepGraph(
        np.asarray(range(count) if groups is None else groups, np.int64),
        np.asarray(list(pairs), np.int64).reshape(-1, 2),
        np.asarray(list(pairs.values()), np.float64),
    )


def list_removals(stored: list[bool] | np.ndarray, *steps: StepGraph) -> Removals:
    choice = choose_survivors(np.asarray(stored, np.bool_), steps)
    kept = choice.survivors < 0
    assert (choice.steps[kept] == -1).all() and (choice.similarities[kept] == 0).all()
    columns = (choice.survivors, choice.steps, choice.similarities)
    return {int(row): tuple(column[row].item() for column in columns) for row in np.flatnonzero(~kept)}


def test_a_chain_keeps_both_ends() -> None:
    # 0 ~ 1 ~ 2, 0 not like 2. 1 goes for 0; 2 is like 1 only, and 1 is gone: 2 stays. A component would lose it.
    assert list_removals([False] * 3, make_graph(3, {(1, 2): 0.9, (1, 0): 0.95})) == {1: (0, 0, 0.95)}


def test_a_longer_chain_loses_every_second() -> None:
    graph = make_graph(5, {(0, 1): 0.9, (1, 2): 0.9, (2, 3): 0.9, (3, 4): 0.9})
    assert list(list_removals([False] * 5, graph)) == [1, 3]


def test_a_row_of_better_rank_than_a_stored_one_stays() -> None:
    # A slice run again: its row 0 is published already, before the stored row 1. Neither goes.
    assert list_removals([False, True], make_graph(2, {(0, 1): 0.99})) == {}
    assert list_removals([False, True], make_graph(2, {}, [0, 0])) == {}


def test_stored_rows_stay_whatever_is_said_of_them() -> None:
    # 0 and 1 are both stored (the threshold was higher once): neither goes, and both may remove.
    assert list_removals([True, True, False], make_graph(3, {(0, 1): 0.99, (1, 2): 0.9})) == {2: (1, 0, 0.9)}
    assert list_removals([True, True, False], make_graph(3, {}, [0, 0, 0])) == {2: (0, 0, 1.0)}


def test_a_stored_row_of_better_rank_removes_what_would_have_removed() -> None:
    # The stored 0 removes 1, so that 2, like 1 alone, stays, and removes 3.
    graph = make_graph(4, {(0, 1): 0.9, (1, 2): 0.9, (2, 3): 0.9})
    assert list_removals([True, False, False, False], graph) == {1: (0, 0, 0.9), 3: (2, 0, 0.9)}


def test_the_first_step_gets_the_removal_and_the_best_rank_the_credit() -> None:
    # 3 is like 0 by vectors, and like 1 and 2 by words: words come first, and of these 1 ranks best.
    words, vectors = make_graph(4, {(3, 2): 0.97, (3, 1): 0.91}), make_graph(4, {(0, 3): 0.99})
    assert list_removals([False] * 4, words, vectors) == {3: (1, 0, 0.91)}


def test_a_removed_row_gets_no_credit() -> None:
    # By words 2 is like 1 only, which goes for 0 by vectors: 2 goes by vectors too, though words come first.
    words, vectors = make_graph(3, {(1, 2): 0.95}), make_graph(3, {(0, 1): 0.91, (0, 2): 0.92})
    assert list_removals([False] * 3, words, vectors) == {1: (0, 1, 0.91), 2: (0, 1, 0.92)}


def test_the_best_rank_of_the_own_group_and_those_beside() -> None:
    # Groups {1, 3, 5}, {0, 4}, {2}; the last two are like the first. 0 removes all but 2, which is like 1 alone.
    graph = make_graph(6, {(7, 5): 0.93, (7, 6): 0.91}, [5, 7, 6, 7, 5, 7])
    assert list_removals([False] * 6, graph) == {1: (0, 0, 0.93), 3: (0, 0, 0.93), 4: (0, 0, 1.0), 5: (0, 0, 0.93)}


def test_no_rows_and_no_steps() -> None:
    assert list_removals([], make_graph(0, {})) == {}
    assert list_removals([False, True, False]) == {}


def list_pairs(steps: list[StepGraph]) -> Similar:
    """Every pair of members, one by one."""
    similar: Similar = {}
    for step, graph in enumerate(steps):
        members: dict[int, list[int]] = {}
        for row, group in enumerate(graph.groups.tolist()):
            members.setdefault(group, []).append(row)
        for group in members.values():
            for pair in combinations(group, 2):
                similar.setdefault(pair, {})[step] = 1.0
        for (a, b), similarity in zip(graph.edges.tolist(), graph.similarities.tolist(), strict=True):
            for pair in product(members.get(a, []), members.get(b, [])):
                similar.setdefault((min(pair), max(pair)), {})[step] = similarity
    return similar


def find_kept(count: int, similar: Similar, stored: list[bool]) -> set[int]:
    """The definition, by recursion from the row that is asked about: no order of work, no rounds."""

    @cache
    def is_kept(row: int) -> bool:
        return stored[row] or not any(is_kept(other) for other in range(row) if (other, row) in similar)

    return {row for row in range(count) if is_kept(row)}


def choose_one_by_one(stored: list[bool], steps: list[StepGraph]) -> Removals:
    """The definition as a loop in rank order."""
    similar, removals = list_pairs(steps), {}
    for row, stays in enumerate(stored):
        kept = [
            (step, other, similarity)
            for other in range(row)
            if other not in removals
            for step, similarity in similar.get((other, row), {}).items()
        ]
        if kept and not stays:
            step, other, similarity = min(kept)
            removals[row] = (other, step, similarity)
    return removals


@st.composite
def make_steps(draw: st.DrawFn, most: int = 9) -> tuple[int, list[StepGraph]]:
    """Few rows, so that cliques, edges between them and steps all meet; numbers of groups with gaps."""
    count = draw(st.integers(1, most))
    steps = []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.lists(st.integers(0, count + 2), min_size=count, max_size=count))
        names = sorted(set(groups))
        pairs = list(combinations(names, 2))
        chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20)) if pairs else []
        turned = {pair[::-1] if draw(st.booleans()) else pair: draw(st.floats(0.5, 1.0)) for pair in chosen}
        steps.append(make_graph(count, turned, groups))
    return count, steps


@pytest.mark.parametrize("worth_a_round", [0.0, survivors.WORTH_A_ROUND, 2.0], ids=["rounds", "both", "loop"])
def test_as_the_definition_says(worth_a_round: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survivors, "WORTH_A_ROUND", worth_a_round)

    @given(make_steps(), st.data())
    def check(made: tuple[int, list[StepGraph]], data: st.DataObject) -> None:
        count, steps = made
        stored = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
        removals = list_removals(stored, *steps)
        assert set(range(count)) - set(removals) == find_kept(count, list_pairs(steps), stored)
        assert removals == choose_one_by_one(stored, steps)

    check()


@given(make_steps(), st.data())
def test_slice_by_slice_is_all_at_once(made: tuple[int, list[StepGraph]], data: st.DataObject) -> None:
    count, steps = made
    slices = sorted(data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)))  # rank: slice, then hash
    hub: list[int] = []
    for number in sorted(set(slices)):
        rows = [row for row in range(count) if row in hub or slices[row] == number]
        there = []
        for graph in steps:
            groups = graph.groups[rows]
            both = np.isin(graph.edges, groups).all(axis=1)
            there.append(StepGraph(groups, graph.edges[both], graph.similarities[both]))
        gone = list_removals([row in hub for row in rows], *there)
        hub = [row for place, row in enumerate(rows) if place not in gone]
    removals = list_removals([False] * count, *steps)
    assert hub == [row for row in range(count) if row not in removals]


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_rows_by_rounds_and_by_the_loop(seed: int) -> None:
    # A chain in rank order, which rounds do not shrink, behind a random graph, which they do; stored rows in both.
    rng = random.Random(seed)
    count, chain = 3_000, 1_000
    groups = [rng.randrange(count) for _ in range(count - chain)] + list(range(count - chain, count))
    names = sorted(set(groups))
    pairs = {tuple(sorted(rng.sample(names, 2))): rng.uniform(0.9, 1) for _ in range(count)}
    links = {(row, row + 1): 0.9 for row in range(count - chain, count - 1)}
    steps = [make_graph(count, pairs, groups), make_graph(count, links)]
    stored = [rng.random() < 0.02 for _ in range(count)]
    assert list_removals(stored, *steps) == choose_one_by_one(stored, steps)


def test_a_clique_of_a_million_costs_a_million() -> None:
    count = 1_000_000
    stored = np.zeros(count, np.bool_)
    stored[700_000] = True
    started = time.monotonic()
    choice = choose_survivors(stored, [make_graph(count, {}, [0] * count)])
    assert time.monotonic() - started < 10
    # Row 0 ranks before the stored one and stays; all others go for it.
    assert np.flatnonzero(choice.survivors == -1).tolist() == [0, 700_000]
    assert (choice.survivors[[1, 699_999, 700_001, count - 1]] == 0).all()


def test_a_chain_in_rank_order_is_no_round_a_row() -> None:
    count = 200_000
    links = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
    started = time.monotonic()
    choice = choose_survivors(np.zeros(count, np.bool_), [StepGraph(np.arange(count), links, np.full(count - 1, 0.9))])
    assert time.monotonic() - started < 20
    assert (choice.survivors[0::2] == -1).all()
    assert (choice.survivors[1::2] == np.arange(0, count, 2)).all()
