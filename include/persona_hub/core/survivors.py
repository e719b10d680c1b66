"""The survivor rule (docs/adr/0005).

In rank order, a row is removed exactly when a *kept* row of better rank is similar enough, by one of the steps. So
each removed row is truly similar to its survivor (connected components are not: they chain), the order of rows and
partitions is nothing, and slice by slice gives the same as all at once: what removes is always a published row.
Where several steps find a survivor, the first step (word sets) gets the removal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

NOT_YET_PUBLISHED = 2**62


class Rank(NamedTuple):
    """Better is smaller: publication number (for ever), then hash of the text, then id."""

    publication: int
    text_hash: str
    row_id: str


class Pair(NamedTuple):
    """Two similar rows, in any order; `step` is the place of the step that compared them, from 0."""

    a: str
    b: str
    step: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Removal:
    """One removed row, and the best-ranked kept row that the step found similar to it."""

    row_id: str
    survivor_id: str
    step: int
    similarity: float


def choose_survivors(ranks: Mapping[str, Rank], pairs: Iterable[Pair], stored: frozenset[str]) -> list[Removal]:
    """Applies the rule.

    Args:
        ranks: rank of every row that is in a pair.
        pairs: similar rows; at least one of each is new.
        stored: rows of the hub: kept for good, whatever their rank.

    Returns:
        Removals of new rows, in rank order.
    """
    better: dict[str, list[tuple[int, Rank, float]]] = defaultdict(list)
    for a, b, step, similarity in pairs:
        if a != b:
            winner, loser = (a, b) if ranks[a] < ranks[b] else (b, a)
            better[loser].append((step, ranks[winner], similarity))
    removals: dict[str, Removal] = {}
    for row_id in sorted(set(better) - stored, key=ranks.__getitem__):
        kept = [entry for entry in better[row_id] if entry[1].row_id not in removals]
        if kept:
            step, winner_rank, similarity = min(kept)
            removals[row_id] = Removal(row_id, winner_rank.row_id, step, similarity)
    return list(removals.values())


def add_copies(removals: Iterable[Removal], copies: Mapping[str, str]) -> list[Removal]:
    """Adds the removals of rows whose text is that of a better-ranked row, which alone was compared.

    Whatever is similar to the one is as similar to the other: a copy goes for what its original goes for, and
    for the original itself where that stays.

    Args:
        removals: of the originals.
        copies: id of the copy → id of its original.
    """
    gone = {removal.row_id: removal for removal in removals}
    added = [
        Removal(copy, gone[first].survivor_id, gone[first].step, gone[first].similarity)
        if first in gone
        else Removal(copy, first, 0, 1.0)
        for copy, first in copies.items()
    ]
    return [*gone.values(), *added]
