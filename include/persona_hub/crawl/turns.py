"""One host's limits, kept by all tasks of all runs together: open connections, and requests a second.

Nobody connects before its connection stands in the host's one file, and each change of that file sees all others
(tables/shared_state.py). A request's moment is reserved there as well: each one lies 1 / `requests_per_second` after
the last, so no second holds more. Who waits longest goes first.

What a dead process held is free at once; what one of another host held, when it has been silent for as long as a
connection may be, and `SILENCE_S` more. The limits come from each run's own settings: give all the same.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field

from persona_hub.crawl.access import Access
from persona_hub.tables.shared_state import LOOK_S, SharedState, is_gone, name_holder

log = logging.getLogger(__name__)

SILENCE_S = 30.0
RENEW_S = 10.0
# Who has not asked for so long has gone away.
WANT_S = 3.0
POLL_S = 0.1
SAY_FIRST_S, SAY_AGAIN_S = 5.0, 60.0
# A moment further ahead than this and one for each connection is a clock that was set back, not a long queue.
LONGEST_QUEUE_S = 600.0


@dataclass
class Waiting:
    """Who wants a connection: since when, and when it last asked; seconds since the epoch."""

    since: float
    asked_at: float


@dataclass
class Door:
    """A host's file: who is in and until when that is believed, who waits, and the next free moment."""

    looked_at: float = 0.0
    next_request: float = 0.0
    inside: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What asking at the door gave: whether one is in, after how many seconds to go on, and how many are in."""

    entered: bool
    wait_s: float
    open: int


class Turn:
    """One open connection. Taken by `take_turn`, given back by `release`."""

    def __init__(self, state: SharedState[Door], access: Access, holder: str) -> None:
        self._state, self._holder = state, holder
        self._silence_s = access.timeout_s + SILENCE_S
        self._renewed = time.monotonic()

    def renew(self) -> bool:
        """Says that the connection lives; cheap enough for every read.

        Returns:
            False where it was silent for so long that its place has been given away: it must be closed.
        """
        if time.monotonic() - self._renewed < RENEW_S:
            return True
        with self._state.change() as door:
            if kept := self._holder in door.inside:
                door.inside[self._holder] = time.time() + self._silence_s
        self._renewed = time.monotonic()
        return kept

    def release(self) -> None:
        """Gives the connection back."""
        with self._state.change() as door:
            door.inside.pop(self._holder, None)


def take_turn(host: str, access: Access) -> Turn:
    """Waits until one more connection may be open at the host and one more request be sent to it.

    Args:
        host: with its port, where the address has one.

    Raises:
        LakeError: the host's file cannot be changed.
    """
    state = _open_state(host, access)
    holder, began, said = name_holder(), time.monotonic(), SAY_FIRST_S - SAY_AGAIN_S
    try:
        while True:
            with state.change() as door:
                answer = knock(door, access, holder, time.time())
            if answer.entered:
                if answer.wait_s >= SAY_FIRST_S:
                    log.warning(
                        "waiting %.0f s to ask %s: it wants a pause, or others take their %g requests a second",
                        answer.wait_s, host, access.requests_per_second,
                    )  # fmt: skip
                _sleep(answer.wait_s)
                return Turn(state, access, holder)
            _sleep(answer.wait_s)
            if (waited := time.monotonic() - began) - said > SAY_AGAIN_S:
                said = waited
                log.warning(
                    "waiting for a turn at %s for %.0f s: %d of %d connections are open",
                    host, waited, answer.open, access.max_connections,
                )  # fmt: skip
    except BaseException:  # a task that is killed while it waits leaves no place behind it
        with state.change() as door:
            door.inside.pop(holder, None)
            door.waiting.pop(holder, None)
        raise


def close_door(host: str, access: Access, seconds: float) -> None:
    """Lets nobody send a request for so long, because the host asked for it."""
    with _open_state(host, access).change() as door:
        door.next_request = max(door.next_request, time.time() + seconds)


def count_waited() -> float:
    """Seconds that this process has waited for turns since its start, over all hosts."""
    return _waited_s


def knock(door: Door, access: Access, holder: str, now: float) -> Answer:
    """What `take_turn` does to the file's content; `now` in seconds since the epoch."""
    if not 0 <= now - door.looked_at < LOOK_S:
        door.looked_at = now
        _mend_clock(door, access, now)
        for gone in [name for name, expires in door.inside.items() if is_gone(name, expires, now)]:
            del door.inside[gone]
        for gone in [name for name, one in door.waiting.items() if is_gone(name, one.asked_at + WANT_S, now)]:
            del door.waiting[gone]
    me = door.waiting.setdefault(holder, Waiting(now, now))
    me.asked_at = now
    ahead = sum((one.since, name) < (me.since, holder) for name, one in door.waiting.items())
    if len(door.inside) + ahead >= access.max_connections:
        return Answer(False, POLL_S, len(door.inside))
    del door.waiting[holder]
    wait_s = _reserve(door, access, now)
    door.inside[holder] = now + wait_s + access.timeout_s + SILENCE_S
    return Answer(True, wait_s, len(door.inside))


def _mend_clock(door: Door, access: Access, now: float) -> None:
    """Times that lie in the future were written before a clock was set back: the silent would seem to live till then."""
    latest = now + _find_longest(access) + access.timeout_s + SILENCE_S
    door.inside = {name: min(expires, latest) for name, expires in door.inside.items()}
    for one in door.waiting.values():
        one.asked_at = min(one.asked_at, now)


def _find_longest(access: Access) -> float:
    """Seconds that a reserved moment may lie ahead."""
    return LONGEST_QUEUE_S + (access.max_connections + 1) / access.requests_per_second


def _reserve(door: Door, access: Access, now: float) -> float:
    """Takes the next free moment for a request; seconds until then."""
    if door.next_request > now + _find_longest(access):
        door.next_request = now
    moment = max(now, door.next_request)
    door.next_request = moment + 1 / access.requests_per_second
    return moment - now


def _open_state(host: str, access: Access) -> SharedState[Door]:
    name = re.sub(r"[^a-z0-9.-]", "_", host.lower())[:120]
    return SharedState(access.limits / f"host-{name}.state", Door, lambda was_broken: Door())


_waited_s = 0.0


def _sleep(seconds: float) -> None:
    """Sleeps in pieces, so that `count_waited` rises while it waits."""
    global _waited_s
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        before = time.monotonic()
        time.sleep(min(left, 1.0))
        _waited_s += time.monotonic() - before
