"""A crawl file as one plain stream that still knows where its gzip members lie.

Common Crawl packs each record as a gzip member of its own, so that one record can be fetched by offset and length;
other writers make one member of the whole file. Both, and plain files, are read here alike. fastwarc is given the
plain bytes: handed the gzip it reports, inside a long member, the position of its buffer as that of the record.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

CHUNK = 65_536
HEAD = 64
GZIP_MAGIC = b"\x1f\x8b"


class MemberStream:
    """Inflates gzip members one after the other; a plain file passes through. Holds one chunk in memory.

    Attributes:
        head: the first bytes of the file as it is stored, for messages.
        cut: None, or how and at which stored byte the file broke off; reading then simply ends.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = stream.read(CHUNK)
        self._inflater: zlib._Decompress | None = None
        self._stored = 0  # bytes of the file that were inflated or passed on
        self._plain = 0  # bytes handed out
        self._starts: dict[int, int] = {}  # plain position → stored position, of members not yet asked for
        self.head = self._buffer[:HEAD]
        self.is_gzip = self.head.startswith(GZIP_MAGIC)
        self.cut: str | None = None

    def read(self, size: int = CHUNK) -> bytes:
        """Returns up to `size` plain bytes; none at the end, whole or broken."""
        data = self._inflate(size) if self.is_gzip else self._pass(size)
        self._plain += len(data)
        return data

    def tell(self) -> int:
        """Plain bytes handed out; fastwarc asks for it."""
        return self._plain

    def locate(self, start: int, end: int | None) -> tuple[int, int] | None:
        """Where the plain bytes from `start` to `end` (None: the end of the file) lie in the stored file.

        Returns:
            Offset and length in bytes, or None where they do not begin and end with a gzip member.
            Each start is answered once; earlier ones are forgotten.
        """
        if not self.is_gzip:
            return start, (self._plain if end is None else end) - start
        offset = self._starts.pop(start, None)
        stop = self._stored if end is None else self._starts.get(end)
        return None if offset is None or stop is None else (offset, stop - offset)

    def _pass(self, size: int) -> bytes:
        data = self._buffer[:size] or self._stream.read(size)
        self._buffer = self._buffer[size:]
        self._stored += len(data)
        return data

    def _inflate(self, size: int) -> bytes:
        while not self.cut:
            if self._inflater is None and self._buffer.startswith(b"\0"):  # padding, as on tapes
                rest = self._buffer.lstrip(b"\0")
                self._stored += len(self._buffer) - len(rest)
                self._buffer = rest
            if len(self._buffer) < len(GZIP_MAGIC):
                self._buffer += self._stream.read(CHUNK)
            if self._inflater is None:
                if not self._buffer:
                    break
                if not self._buffer.startswith(GZIP_MAGIC):
                    self.cut = f"no gzip member at byte {self._stored}, but {self._buffer[:HEAD]!r}"
                    break
                self._starts[self._plain] = self._stored
                self._inflater = zlib.decompressobj(wbits=31)
            elif not self._buffer:
                self.cut = f"the gzip ends in the middle of a member, at byte {self._stored}"
                break
            try:
                data = self._inflater.decompress(self._buffer, size)
            except zlib.error as error:
                self.cut = f"the gzip is damaged after byte {self._stored} ({error})"
                break
            rest = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            self._stored += len(self._buffer) - len(rest)
            self._buffer = rest
            if self._inflater.eof:
                self._inflater = None
            if data:
                return data
        return b""
