"""Stops sending while the endpoint is sick, and finds out by single calls whether it is well again.

    closed ──5 sick calls in a row──► open ──pause──► one call probes ──sick──► open, twice the pause
      ▲                                                      │
      └──────────────────────anything else───────────────────┘

Times are seconds of any clock that only grows; whoever owns the breaker passes them in.
"""

from __future__ import annotations

import random

SICK_RUN = 5
PAUSE_S = 1.0
MAX_PAUSE_S = 30.0


class Breaker:
    """Of one process and endpoint.

    Args:
        patience_s: seconds for which the endpoint may be sick in all. They are counted from the last time that it gave
            five healthy answers in a row.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._sick_run = self._well_run = 0
        self._open_at: float | None = None
        self._sick_before_s = 0.0
        self._pause_s = PAUSE_S
        self._probe_at = 0.0
        self._probing = False
        self.is_hopeless = False

    @property
    def is_open(self) -> bool:
        return self._open_at is not None

    def find_wait(self, now: float) -> float:
        """Seconds until a call may go: 0 at once, infinity while a probe is on its way."""
        if not self.is_open:
            return 0.0
        return float("inf") if self._probing else max(0.0, self._probe_at - now)

    def begin(self) -> bool:
        """A call goes. True: it is the probe, say so when it has come home."""
        self._probing = self.is_open
        return self._probing

    def note_well(self, now: float) -> None:
        """The endpoint answered, be it with a refusal of this very call."""
        if self._open_at is not None:
            self._sick_before_s += now - self._open_at
            self._open_at, self._probing, self._pause_s = None, False, PAUSE_S
        self._sick_run = 0
        self._well_run += 1
        if self._well_run >= SICK_RUN:
            self._sick_before_s = 0.0

    def note_sick(self, now: float, was_probe: bool, wait_s: float = 0.0) -> None:
        """A call failed in a way that speaks of the endpoint; `wait_s` is what the server asked for."""
        self._well_run = 0
        self._sick_run += 1
        if self._open_at is None and self._sick_run >= SICK_RUN:
            self._open_at = now
            self._plan_probe(now, wait_s)
        elif was_probe and self._open_at is not None:  # an older call's answer may have closed it meanwhile
            self._probing = False
            self._plan_probe(now, wait_s)

    def _plan_probe(self, now: float, wait_s: float) -> None:
        sick_s = self._sick_before_s + (now - self._open_at if self._open_at is not None else 0.0)
        left_s = self._patience_s - sick_s
        self.is_hopeless = left_s <= 0
        # Half jitter: several processes must not probe in step, and none at once. The last probe is at the end of
        # the patience, not after it.
        pause_s = max(wait_s, self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311, spreads calls, keeps no secret
        self._probe_at = now + min(pause_s, max(0.0, left_s))
        self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)
