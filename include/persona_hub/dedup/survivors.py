"""Who stays: the survivor rule (docs/adr/0005), in arrays.

In rank order, a row is removed exactly when a *kept* row of better rank is similar by any step. That is the greedy
maximal independent set of the rank's order, and needs no sequential pass: whoever ranks best in its neighbourhood is
kept, its neighbours go, and so on. Ranks that end in a hash are an order at random, and then so few rounds do that
they grow with the logarithm of the rows (Fischer and Noever, "Tight Analysis of Parallel Randomized Greedy MIS",
SODA 2018). An order made against it, a chain x1 ~ x2 ~ x3 … in rank order, decides a row or two a round: what rounds
no longer shrink is finished by the loop of the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

WORTH_A_ROUND = 1 / 8  # share of the undecided that a round must decide; less, and the loop is the faster


class StepGraph(NamedTuple):
    """What one step found similar, of rows 0..n-1, 0 the best rank.

    Rows of a group are all similar to one another (1.0), as are all rows of two groups that an edge joins. So a
    clique of a million equal rows costs a million, and never their square.
    """

    groups: Rows  # (n,) number of each row's group, from 0; a row without equals has one of its own
    edges: Rows  # (m, 2) numbers of two different groups, each pair once
    similarities: npt.NDArray[np.float64]  # (m,)


class Choice(NamedTuple):
    """Of each row (n,): the best-ranked kept row of the first step that has a better one; -1, -1, 0.0 where kept."""

    survivors: Rows
    steps: npt.NDArray[np.int8]
    similarities: npt.NDArray[np.float64]


def choose_survivors(stored: Flags, steps: Sequence[StepGraph]) -> Choice:
    """Applies the rule, and says for whom each removed row went.

    Args:
        stored: (n,) rows that are kept whatever their rank. Rows are numbered by rank, 0 the best.
        steps: what each step found; the first gets the removals that several could have.
    """
    removed = find_removed(stored, steps)
    kept = np.flatnonzero(~removed)
    choice = Choice(np.full(len(stored), -1), np.full(len(stored), -1, np.int8), np.zeros(len(stored)))
    waiting = np.flatnonzero(removed)
    for step, graph in enumerate(steps):
        own = _best_of_groups(graph, kept)
        near = _best_near(graph, own)
        similarities = np.ones(len(near))
        # All members of a group have the same neighbourhood, so one similarity does for all who go for its best row.
        for here, there in ((0, 1), (1, 0)):
            best = own[graph.edges[:, there]] == near[graph.edges[:, here]]
            similarities[graph.edges[best, here]] = graph.similarities[best]
        groups = graph.groups[waiting]
        found = near[groups] < waiting
        rows = waiting[found]
        choice.survivors[rows] = near[groups[found]]
        choice.steps[rows] = step
        choice.similarities[rows] = similarities[groups[found]]
        waiting = waiting[~found]
    return choice


def find_removed(stored: Flags, steps: Sequence[StepGraph]) -> Flags:
    """Applies the rule: (n,) true for rows that go. Arguments as for `choose_survivors`."""
    removed = np.zeros(len(stored), np.bool_)
    graphs = list(steps)
    newly_kept, undecided = np.flatnonzero(stored), np.flatnonzero(~stored)
    before = len(undecided)
    while len(undecided):
        gone = np.zeros(len(undecided), np.bool_)
        for graph in graphs:
            gone |= _best_near(graph, _best_of_groups(graph, newly_kept))[graph.groups[undecided]] < undecided
        removed[undecided[gone]] = True
        undecided = undecided[~gone]
        graphs = [_drop_decided(graph, undecided) for graph in graphs]
        # The stored rows' round counts for nothing: it may find none to decide.
        if len(newly_kept) and not stored[newly_kept[0]] and before - len(undecided) < before * WORTH_A_ROUND:
            removed[_loop(undecided, graphs)] = True
            break
        before = len(undecided)
        best = np.ones(len(undecided), np.bool_)
        for graph in graphs:
            best &= _best_near(graph, _best_of_groups(graph, undecided))[graph.groups[undecided]] == undecided
        newly_kept, undecided = undecided[best], undecided[~best]
    return removed


def _best_of_groups(graph: StepGraph, rows: Rows) -> Rows:
    """(g,) The best of these rows in each group; n, worse than all, where there is none."""
    count = len(graph.groups)
    best = np.full(int(graph.groups.max(initial=-1)) + 1, count)
    np.minimum.at(best, graph.groups[rows], rows)
    return best


def _best_near(graph: StepGraph, own: Rows) -> Rows:
    """(g,) The best of `own` among each group and those that an edge joins to it."""
    near = own.copy()
    np.minimum.at(near, graph.edges[:, 0], own[graph.edges[:, 1]])
    np.minimum.at(near, graph.edges[:, 1], own[graph.edges[:, 0]])
    return near


def _drop_decided(graph: StepGraph, undecided: Rows) -> StepGraph:
    """The graph without edges to a group that has no undecided row: nothing more comes over them."""
    alive = np.zeros(int(graph.groups.max(initial=-1)) + 1, np.bool_)
    alive[graph.groups[undecided]] = True
    both = alive[graph.edges].all(axis=1)
    return StepGraph(graph.groups, graph.edges[both], graph.similarities[both])


def _loop(undecided: Rows, graphs: Sequence[StepGraph]) -> Rows:
    """The definition, row by row: those of the undecided that go. No kept row is near any of them.

    Linear: once a row of a group is kept, the rest of its group and the groups around it are closed, once for all.
    """
    steps = []
    for graph in graphs:
        closed = bytearray(int(graph.groups.max(initial=-1)) + 1)  # read one by one, which arrays are slow at
        from_both = np.concatenate([graph.edges, graph.edges[:, ::-1]])
        from_both = from_both[np.argsort(from_both[:, 0], kind="stable")]
        groups = graph.groups[undecided]
        first, last = (np.searchsorted(from_both[:, 0], groups, side) for side in ("left", "right"))
        places = list(zip(groups.tolist(), first.tolist(), last.tolist(), strict=True))
        steps.append((closed, np.frombuffer(closed, np.uint8), np.ascontiguousarray(from_both[:, 1]), places))
    removed = []
    for place, row in enumerate(undecided.tolist()):
        if any(closed[places[place][0]] for closed, _, _, places in steps):
            removed.append(row)
            continue
        for closed, flags, near, places in steps:
            group, first_near, last_near = places[place]
            closed[group] = 1
            flags[near[first_near:last_near]] = 1
    return np.asarray(removed, np.int64)
