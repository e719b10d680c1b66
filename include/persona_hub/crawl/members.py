"""A crawl file as pieces of plain bytes that know where the gzip members or zstd frames begin which held them.

Common Crawl packs each record as a gzip member of its own, so that one record can be fetched by offset and length;
other writers make one member of the whole file. Both, zstd and plain files are read here alike, told apart by their
first bytes. Damage costs the member that it is in: reading goes on at the next one.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

from isal import isal_zlib

from persona_hub.crawl.report import ReadReport
from persona_hub.crawl.stored import MemberFault, Stored
from persona_hub.crawl.zstd_frames import FRAME_START, ZstdFrames

INFLATED = 131_072
"""Bytes inflated at once: whatever a few stored ones blow up to, no more is held."""
HEAD = 64
MEMBER_HEAD = 4_096
"""Stored bytes in hand before a member is begun: its first piece then holds a record's first line."""
SALVAGE_STEP = 256
INFLATE_ERROR = cast(type[Exception], isal_zlib.error)
GZIP_START = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")


class Piece(NamedTuple):
    """Plain bytes, in the order of the file.

    Attributes:
        begin: stored offset, where a member begins with this piece; else None.
        end: stored offset after what gave these bytes.
        broken: bytes of a member are lost before this piece.
    """

    data: bytes
    begin: int | None
    end: int
    broken: bool


class MemberStream:
    """Iterates the pieces of a file; holds one chunk of it, stored and plain.

    Attributes:
        head: the first bytes of the file as it is stored, for messages.
        is_plain: whether the file is stored as it is read.
    """

    def __init__(self, stream: BinaryIO, report: ReadReport) -> None:
        self._stored, self._report = Stored(stream, report), report
        self._stored.fill(HEAD)
        self.head = self._stored.buffer[:HEAD]
        self.is_plain, self._zstd = False, ZstdFrames()
        if GZIP_START.match(self.head):
            self._start, self._read = GZIP_START, _inflate
        elif FRAME_START.match(self.head):
            self._start, self._read = FRAME_START, self._zstd.read
        else:
            self.is_plain = True

    @property
    def stand_alone(self) -> bool:
        """Whether a member inflates by its own bytes: not with a dictionary that stands before all of them."""
        return self._zstd.dictionary is None

    def __iter__(self) -> Iterator[Piece]:
        return self._pass() if self.is_plain else self._read_members()

    def _pass(self) -> Iterator[Piece]:
        stored = self._stored
        while stored.fill(1):
            data = stored.buffer
            stored.keep(b"")
            yield Piece(data, None, stored.position, False)

    def _read_members(self) -> Iterator[Piece]:
        stored, broken = self._stored, False
        while stored.fill(MEMBER_HEAD) or stored.buffer:
            if not self._start.match(stored.buffer):
                self._skip_garbage()
                continue
            begin: int | None = stored.position
            first = end = stored.position
            try:
                for data in self._read(stored):
                    if data:
                        end = stored.position
                        yield Piece(data, begin, end, broken)
                        begin, broken = None, False
                if begin is None and end != stored.position:
                    yield Piece(b"", None, stored.position, False)
            except MemberFault as fault:
                if stored.position == first:
                    stored.skip(1)
                self._report.note("damaged_member", str(fault), stored.skip_to(self._start))
                broken = True
        if broken:
            yield Piece(b"", None, stored.position, True)

    def _skip_garbage(self) -> None:
        """Passes by what is no member; padding with zeros, as on tapes, is no fault."""
        stored = self._stored
        rest = stored.buffer.lstrip(b"\0")
        stored.keep(rest)
        if rest and not self._start.match(rest):
            found = f"no gzip member or zstd frame at byte {stored.position}, but {rest[:HEAD]!r}"
            self._report.note("skipped_garbage", found, stored.skip_to(self._start))


def _inflate(stored: Stored) -> Iterator[bytes]:
    """Yields the plain bytes of the gzip member that begins here.

    Raises:
        MemberFault: it is damaged or breaks off.
    """
    first = stored.position
    inflater = isal_zlib.decompressobj(wbits=31)
    while not inflater.eof:
        if not stored.fill(1):
            stored.break_off()
        try:
            data = inflater.decompress(stored.buffer, INFLATED)
        except INFLATE_ERROR as error:
            if stored.position == first:
                yield _salvage(stored.buffer)
            raise MemberFault(f"the gzip is damaged after byte {stored.position} ({error})") from None
        stored.keep(inflater.unused_data if inflater.eof else inflater.unconsumed_tail)
        yield data


def _salvage(data: bytes) -> bytes:
    """What a damaged member gives before the damage: isal hands out nothing of a call that fails."""
    inflater, plain = zlib.decompressobj(wbits=31), b""
    for start in range(0, len(data), SALVAGE_STEP):
        try:
            plain += inflater.decompress(data[start : start + SALVAGE_STEP], INFLATED)
        except zlib.error:
            break
        if len(plain) > INFLATED or inflater.unconsumed_tail or inflater.eof:
            break
    return plain
