"""Zstandard frames, inflated block by block (RFC 8878).

The library's own readers either give no bound on what a few bytes inflate to, or do not tell where a frame ends in the
file. A frame's blocks carry their lengths, so that we hand them over one by one: at most 128 KiB come out of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import zstandard

from persona_hub.crawl.stored import MemberFault, Stored

FRAME_START = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
SKIPPABLE = b"\x2a\x4d\x18"
DICTIONARY = b"\x5d"  # first byte of the skippable frame that holds a dictionary, as .warc.zst files begin
MAX_DICTIONARY = 16 * 1024 * 1024
MAX_WINDOW = 1 << 27
MAX_FRAME_HEADER = 18
RLE = 1


class ZstdFrames:
    """Reads one frame after the other from the same file, with the dictionary that it may begin with."""

    def __init__(self) -> None:
        self.dictionary: zstandard.ZstdCompressionDict | None = None

    def read(self, stored: Stored) -> Iterator[bytes]:
        """Yields the plain bytes of the frame that begins here; none for a skippable frame.

        Raises:
            MemberFault: it is damaged or breaks off.
        """
        stored.fill(MAX_FRAME_HEADER)
        try:
            if stored.buffer[1:4] == SKIPPABLE:
                self._skip(stored)
                return
            header = stored.take(zstandard.frame_header_size(stored.buffer[:MAX_FRAME_HEADER]))
            parameters = zstandard.get_frame_parameters(header)
            inflater = zstandard.ZstdDecompressor(self.dictionary, max_window_size=MAX_WINDOW).decompressobj()
            yield inflater.decompress(header)
            last = False
            while not last:
                head = stored.take(3)
                bits = int.from_bytes(head, "little")
                last, kind, size = bool(bits & 1), bits >> 1 & 3, bits >> 3
                yield inflater.decompress(head + stored.take(1 if kind == RLE else size))
            if parameters.has_checksum:
                yield inflater.decompress(stored.take(4))
        except zstandard.ZstdError as error:
            raise MemberFault(f"the zstd is damaged before byte {stored.position} ({error})") from None

    def _skip(self, stored: Stored) -> None:
        head = stored.take(8)
        size = int.from_bytes(head[4:], "little")
        if head[:1] != DICTIONARY or stored.position != len(head) or size > MAX_DICTIONARY:
            return stored.skip(size)
        data = stored.take(size)
        if FRAME_START.match(data):
            with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(data) as reader:
                data = reader.read(MAX_DICTIONARY)
        self.dictionary = zstandard.ZstdCompressionDict(data)
