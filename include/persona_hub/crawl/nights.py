"""Which slice a night takes: a pure function of (calendar, night).

The n-th slice of the newest snapshot known, n nights after it was first seen here; when that one is exhausted,
the tail of those before. A snapshot added later has a later `first_seen`, so it changes no night of the past. The
newest is the one with the latest end date: an old crawl that is entered late, as after a fault of its list, waits.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from datetime import UTC, datetime

from persona_hub.crawl.calendar import Calendar, Slice, Snapshot


@dataclass(frozen=True)
class Nights:
    """Ticks at a fixed beat, numbered since 1970: `offset_s` after midnight UTC, every `period_s` seconds."""

    period_s: int = 86_400
    offset_s: int = 7_200

    def number(self, at: datetime) -> int:
        """The last night that began at or before `at`."""
        return int((at.timestamp() - self.offset_s) // self.period_s)

    def begin(self, night: int) -> datetime:
        return datetime.fromtimestamp(night * self.period_s + self.offset_s, tz=UTC)

    def first_from(self, at: datetime) -> int:
        """The first night that begins at or after `at`."""
        return -int(-(at.timestamp() - self.offset_s) // self.period_s)


def pick_slice(calendar: Calendar, nights: Nights, night: int) -> Slice | None:
    """The slice of a night, or None where no snapshot was seen yet or all are exhausted.

    Walks over the snapshots, not over the nights: between two arrivals, the nights eat from the newest
    snapshot down.
    """
    arrivals = _order_arrivals(calendar, nights)
    stack: list[tuple[Snapshot, int]] = []  # the newest last
    picked: Slice | None = None
    for place, (first, snapshot) in enumerate(arrivals):
        if first > night:
            break
        insort(stack, (snapshot, 0), key=lambda one: one[0].end_date)
        until = min(arrivals[place + 1][0] if place + 1 < len(arrivals) else night + 1, night + 1)
        left = until - first
        while left and stack:
            top, used = stack.pop()
            taken = min(left, top.slices - used)
            left -= taken
            picked = top.slice(used + taken) if taken else picked
            if used + taken < top.slices:
                stack.append((top, used + taken))
        picked = None if left else picked
    return picked


def next_arrival(calendar: Calendar, nights: Nights, night: int) -> int | None:
    """The first night after `night` on which a snapshot that is known already starts."""
    return min((first for first, _ in _order_arrivals(calendar, nights) if first > night), default=None)


def _order_arrivals(calendar: Calendar, nights: Nights) -> list[tuple[int, Snapshot]]:
    ordered = sorted(calendar.snapshots, key=lambda one: (one.first_seen, one.end_date))
    return [(nights.first_from(snapshot.first_seen), snapshot) for snapshot in ordered]
