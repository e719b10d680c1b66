"""The hard limits of one endpoint, kept by all partitions of all runs together.

Two runs side by side never exceed a limit, because nobody sends before its send stands in the endpoint's one file, and
each change of that file sees all others (tables/shared_state.py). In detail:

- **Calls in flight.** Every holder's calls stand in the file from before they are sent until after they ended, and a
  new one is granted only while their sum is below the limit. What a holder held comes back when its process is dead,
  by which its connections are closed; one that is only silent (another host, a stopped process) keeps it for as long
  as a call may last and `SILENCE_S` more.
- **Requests and tokens a minute.** A bucket fills with r a second up to b, and b + 60 r is the limit, so no 60 seconds
  hold more; it begins empty, and nobody keeps a store taken from it. Tokens are taken by estimate before the send, and
  what was estimated wrongly is given back or owed after the answer. (One call of more than half a minute's tokens
  waits for half of them and owes the rest.)

What several holders want is shared max-min fair: who wants less than an even share gets it all, and what it leaves is
shared by the others; odd pieces go to who was served longest ago. A want that was not repeated within `WANT_S` is none.

Clocks of several hosts may differ: a bucket never fills for time that somebody has already filled it for. The limits
come from the settings of each run: give all runs that share an endpoint the same.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from urllib.parse import urlsplit

from persona_hub.settings import LlmSettings
from persona_hub.tables.shared_state import LOOK_S, SharedState, is_gone

BURST_S = 0.1
SILENCE_S = 30.0
WANT_S = 1.0
# After a broken file: those who live put their calls back within a second (admission.py).
REBUILD_S = 3.0
SHORTEST_WAIT_S, SLOT_WAIT_S, LONGEST_WAIT_S = 0.02, 0.05, 0.25
CLOCK_JUMP_S = 60.0


@dataclass
class Seat:
    """What one holder has and wants; times in seconds since the epoch."""

    held: int = 0
    wants: int = 0
    wanted_tokens: float = 0.0
    largest_need: float = 0.0
    asked_at: float = 0.0
    served_at: float = 0.0
    expires: float = 0.0


@dataclass
class Bucket:
    """Fills with time. `largest` is what was wanted at once in the last minute, which must fit."""

    level: float = 0.0
    filled_at: float = 0.0
    largest: float = 0.0
    largest_at: float = 0.0
    rate: float = 0.0

    def fill(self, limit: int, largest_need: float, now: float) -> None:
        """Fills it for the time gone by."""
        if largest_need >= self.largest or now - self.largest_at > 60:
            self.largest, self.largest_at = largest_need, now
        if self.filled_at > now + CLOCK_JUMP_S:
            self.filled_at = now
        # A minute may begin with a full bucket, and a piece that comes with its end is the next one's.
        self.rate = (limit + 1 - _find_burst(limit, self.largest)) / 60
        self.level = min(_find_burst(limit, largest_need), self.level + max(0.0, now - self.filled_at) * self.rate)
        self.filled_at = max(self.filled_at, now)


def _find_burst(limit: int, largest: float) -> float:
    return max(1 + BURST_S * limit / 60, min(largest, limit / 2))


@dataclass
class Room:
    """The endpoint's file."""

    closed_until: float = 0.0
    looked_at: float = 0.0
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)
    seats: dict[str, Seat] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """What one exchange gave: so many of the wanted calls, and seconds after which asking for the rest makes sense."""

    granted: int
    wait_s: float


class EndpointLimits:
    """One holder's way to the limits of its endpoint.

    Args:
        lake: root folder of the lake.
        settings: the endpoint and its limits.
        holder: who asks (`name_holder`).
    """

    def __init__(self, lake: str, settings: LlmSettings, holder: str) -> None:
        file = Path(lake) / "_limits" / f"{name_endpoint(settings)}.state"
        self._state = SharedState(file, Room, _begin_room)
        self._settings, self._holder = settings, holder

    @property
    def counts_in_flight(self) -> bool:
        return self._settings.max_in_flight is not None

    def exchange(self, held: int, needs: Sequence[float], unused: float = 0.0) -> Turn:
        """Says what is in flight, and asks for more.

        Args:
            held: calls of this holder that are in flight.
            needs: estimated tokens of each call that is wanted; the first of them are granted.
            unused: tokens taken before that were not used; below zero, used but not taken.

        Raises:
            LakeError: the file cannot be changed.
        """
        with self._state.change() as room:
            return serve(room, self._settings, self._holder, held, needs, unused, time.time())


def serve(
    room: Room, settings: LlmSettings, holder: str, held: int, needs: Sequence[float], unused: float, now: float
) -> Turn:
    """What `EndpointLimits.exchange` does to the file's content; `now` in seconds since the epoch."""
    if not 0 <= now - room.looked_at < LOOK_S:
        room.looked_at = now
        for gone in [name for name, seat in room.seats.items() if is_gone(name, seat.expires, now)]:
            del room.seats[gone]
    served_at = room.seats[holder].served_at if holder in room.seats else 0.0
    expires = now + settings.timeout_s + SILENCE_S
    seat = Seat(held, len(needs), sum(needs), max(needs, default=0.0), now, served_at, expires)
    room.seats[holder] = seat
    if settings.tokens_per_minute:
        room.tokens.level += unused
    turn = Turn(0, SLOT_WAIT_S) if now < room.closed_until else _grant(room, settings, seat, needs, now)
    seat.held += turn.granted
    seat.wants -= turn.granted
    seat.wanted_tokens = sum(needs[turn.granted :])
    if turn.granted:
        seat.served_at = now
    if not seat.held and not seat.wants:
        del room.seats[holder]
    return turn


def _grant(room: Room, settings: LlmSettings, seat: Seat, needs: Sequence[float], now: float) -> Turn:
    line = [other for other in room.seats.values() if other.wants and other.asked_at > now - WANT_S]
    granted, wait_s = len(needs), SHORTEST_WAIT_S
    if slots := settings.max_in_flight:
        asked = {id(other): other.held + other.wants for other in line}
        level = find_level(slots, (asked.get(id(other), other.held) for other in room.seats.values()))
        line = [other for other in line if other.held < level]
        share = math.floor(min(level, seat.held + seat.wants)) - seat.held
        first = any(other is seat for other in line) and not _find_place(seat, line)
        free = slots - sum(other.held for other in room.seats.values())
        granted = max(0, min(granted, free, max(share, first)))
        wait_s = SLOT_WAIT_S if granted < len(needs) else wait_s
    place = _find_place(seat, line)
    if limit := settings.requests_per_minute:
        room.requests.fill(limit, 1.0, now)
        wanted = [float(other.wants) for other in line]
        granted, wait_s = _draw(room.requests, limit, [1.0] * granted, wanted, place, wait_s)
    if limit := settings.tokens_per_minute:
        room.tokens.fill(limit, max((other.largest_need for other in line), default=0.0), now)
        wanted = [other.wanted_tokens for other in line]
        granted, wait_s = _draw(room.tokens, limit, needs[:granted], wanted, place, wait_s)
        room.tokens.level -= sum(needs[:granted])
    if settings.requests_per_minute:
        room.requests.level -= granted
    return Turn(granted, wait_s if granted < len(needs) else 0.0)


def _draw(
    bucket: Bucket, limit: int, sizes: Sequence[float], wanted: list[float], place: int, wait_s: float
) -> tuple[int, float]:
    """How many of `sizes` a share of the bucket covers, and after how long it may cover the next."""
    share = min(bucket.level, find_level(bucket.level, wanted))
    fits = sum(total <= share for total in accumulate(sizes))
    if not fits and sizes:
        # An even share of little is less than one call: they take turns, unless room would be wasted meanwhile.
        burst = _find_burst(limit, sizes[0])
        fits = int(bucket.level >= (burst if place else min(sizes[0], burst)))
    if fits < len(sizes):
        missing = sizes[fits] * (place + 1) - (bucket.level - sum(sizes[:fits]))
        wait_s = max(wait_s, min(LONGEST_WAIT_S, missing / bucket.rate))
    return fits, wait_s


def find_level(total: float, demands: Iterable[float]) -> float:
    """The water level of max-min fairness: everybody gets what it demands, but no more than this."""
    waiting = sorted(demands)
    for index, demand in enumerate(waiting):
        if demand * (len(waiting) - index) > total:
            return max(0.0, total / (len(waiting) - index))
        total -= demand
    return math.inf


def name_endpoint(settings: LlmSettings) -> str:
    """A file's name for an address and a model there; whatever credentials the address holds, it is the same."""
    parts = urlsplit(settings.base_url or "")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return hashlib.sha256(f"{address} {settings.model}".encode()).hexdigest()[:16]


def _find_place(seat: Seat, line: list[Seat]) -> int:
    """Who was served longest ago is first."""
    return sum(other.served_at < seat.served_at for other in line)


def _begin_room(was_broken: bool) -> Room:
    now = time.time()
    closed_until = now + REBUILD_S if was_broken else 0.0
    return Room(closed_until, requests=Bucket(filled_at=now), tokens=Bucket(filled_at=now))
