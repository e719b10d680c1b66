"""The plain bytes of one segment of a crawl file: a run in which records follow each other without a seam.

A segment ends where bytes were lost, and where a gzip member or zstd frame begins that begins with a record: no record
reaches beyond it, whatever its Content-Length says. In files packed as Common Crawl packs, each record is a segment.
"""

from __future__ import annotations

import re

from persona_hub.crawl.members import MemberStream, Piece


class Window:
    """What is in hand of the segment, read forward.

    Attributes:
        data, at: bytes in hand, and where the reading stands in them.
        broken: the segment has ended because what followed is lost.
        ended: nothing of the segment comes after what is in hand.
        begin: stored offset of the segment, where a member begins with it.
    """

    def __init__(self, members: MemberStream, start: re.Pattern[bytes]) -> None:
        self._pieces, self._start = iter(members), start
        self.is_plain = members.is_plain
        self.data, self.at = b"", 0
        self.begin: int | None = None
        self.end = 0  # stored offset after the last piece in hand
        self.broken, self.ended = False, True
        self._first = 0  # plain offset of data[0]
        self._next: Piece | None = next(self._pieces, None)

    def open_segment(self) -> bool:
        """Goes to the next segment; false at the end of the file. What is in hand of the last one is dropped."""
        piece = self._next
        if piece is None:
            return False
        self._first += len(self.data)
        self.data, self.at, self.begin, self.end = piece.data, 0, piece.begin, piece.end
        self.broken, self.ended = False, False
        self._next = None
        return True

    @property
    def drained(self) -> bool:
        """Whether the segment is read to its end."""
        return self.ended and self.at == len(self.data)

    @property
    def position(self) -> int:
        """Plain offset of what is read next."""
        return self._first + self.at

    def fill(self, count: int) -> bool:
        """Whether `count` bytes of the segment are in hand, after reading what that takes."""
        have = len(self.data) - self.at
        if have >= count:
            return True
        if self.ended:
            return False
        parts = [self.data[self.at :]] if have else []
        while have < count and (data := self._pull()):
            parts.append(data)
            have += len(data)
        self._first += self.at
        self.data, self.at = parts[0] if len(parts) == 1 else b"".join(parts), 0
        return have >= count

    def take(self, count: int) -> bytes:
        """Up to `count` bytes."""
        self.fill(count)
        data = self.data[self.at : self.at + count]
        self.at += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Puts bytes that were taken last before what is in hand."""
        self._first += self.at - len(data)
        self.data, self.at = data + self.data[self.at :], 0

    def skip_blank(self) -> bytes:
        """Passes empty lines by, and returns them."""
        blank = b""
        while match := _BLANK.match(self.data, self.at):
            blank += match[0]
            self.at = match.end()
            if self.at < len(self.data) or not self.fill(1):
                break
        return blank

    def _pull(self) -> bytes:
        """The next piece's bytes; none where the segment ends."""
        while True:
            if self._next is None:
                self._next = next(self._pieces, None)
            piece = self._next
            if piece is None or piece.broken or (piece.begin is not None and self._start.match(piece.data)):
                self.ended, self.broken = True, piece is not None and piece.broken
                return b""
            self._next = None
            self.end = piece.end
            if piece.data:  # else it only says where a member ends
                return piece.data


_BLANK = re.compile(rb"[\r\n]+")
