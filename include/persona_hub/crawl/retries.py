"""What is tried again, how often and after which wait: full jitter (Brooker, AWS Architecture Blog, 2015) and Retry-After."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from persona_hub.crawl.access import Access
from persona_hub.errors import SourceError

LONGEST_BACKOFF_S = 60.0
LONGEST_PAUSE_S = 300.0
"""A host that asks for more is asked again by the next try of the task."""
PROGRESS = 65_536
"""Bytes after which a file has come on; fewer, and a host that breaks off at each byte would be asked for ever."""


class Fault(Exception):
    """Something that another try may cure. `retry_after_s` is what the host asked for, if it did."""

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.what, self.retry_after_s = what, retry_after_s


class Patience:
    """Counts the tries of one file that brought nothing, and waits between them."""

    def __init__(self, name: str, access: Access) -> None:
        self._name, self._access = name, access
        self._tries = 0
        self._gained = 0

    def gain(self, count: int) -> None:
        """So many bytes came; enough of them, and the tries count from the start."""
        if self._tries:
            self._gained += count
            if self._gained >= PROGRESS:
                self._tries = 0

    def spend(self, fault: Fault) -> None:
        """Waits before the next try.

        Raises:
            SourceError: there is none left.
        """
        self._tries, self._gained = self._tries + 1, 0
        if self._tries >= self._access.max_attempts:
            raise SourceError(
                f"{self._name} {fault.what}" + (f", {self._tries} times" if self._tries > 1 else ""),
                wanted="the file",
                cure="check the address and whether the host is well, then run again",
            )
        longest = min(LONGEST_BACKOFF_S, self._access.backoff_s * 2 ** (self._tries - 1))
        time.sleep((fault.retry_after_s or 0.0) + random.uniform(0, longest))  # noqa: S311 - jitter


def parse_retry_after(value: str | None) -> float | None:
    """Seconds to wait, at most `LONGEST_PAUSE_S`, from a number of seconds or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), LONGEST_PAUSE_S) if seconds == seconds else None
