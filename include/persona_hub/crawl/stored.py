"""The stored bytes of a crawl file, read forward with as much in hand as is asked for."""

from __future__ import annotations

import re
from typing import BinaryIO, NoReturn

from persona_hub.crawl.report import ReadReport

CHUNK = 16_384
"""Bytes read at once: what is left of them is copied at the end of each member, and of larger ones that tells."""
LONGEST_START = 8
"""Bytes that a pattern given to `skip_to` may need to match."""


class MemberFault(Exception):
    """A gzip member or zstd frame that does not inflate; met and counted in `members.py`."""


class Stored:
    """A forward reader.

    Attributes:
        buffer: what is in hand.
        position: offset of its first byte in the file.
    """

    def __init__(self, stream: BinaryIO, report: ReadReport) -> None:
        self._stream, self._report = stream, report
        self.buffer = b""
        self.position = 0

    def fill(self, count: int) -> bool:
        """Whether `count` bytes are in hand, after reading what that takes."""
        while len(self.buffer) < count:
            data = self._stream.read(CHUNK)
            if not data:
                return False
            self._report.stored_bytes += len(data)
            self.buffer += data
        return True

    def keep(self, rest: bytes) -> None:
        """Goes on to `rest`, which is the end of the buffer."""
        self.position += len(self.buffer) - len(rest)
        self.buffer = rest

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            MemberFault: the file has no more.
        """
        if not self.fill(count):
            self.break_off()
        data = self.buffer[:count]
        self.keep(self.buffer[count:])
        return data

    def break_off(self) -> NoReturn:
        """Ends the reading: the file has less than it should.

        Raises:
            MemberFault: always.
        """
        self.keep(b"")
        self._report.cut = f"the file ends in the middle of a member, at byte {self.position}"
        raise MemberFault(self._report.cut)

    def skip(self, count: int) -> None:
        """Passes `count` bytes by, or what there is."""
        while count > len(self.buffer):
            count -= len(self.buffer)
            self.keep(b"")
            if not self.fill(1):
                return
        self.keep(self.buffer[count:])

    def skip_to(self, start: re.Pattern[bytes]) -> int:
        """Goes to the next match, or to the end; returns how many bytes were passed by."""
        before = self.position
        while self.fill(LONGEST_START):
            if match := start.search(self.buffer):
                self.keep(self.buffer[match.start() :])
                return self.position - before
            self.keep(self.buffer[1 - LONGEST_START :])
        self.keep(b"")
        return self.position - before
