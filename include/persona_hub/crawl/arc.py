"""Record headers of ARC 1 and 2, the format before WARC: one line each.

http://archive.org/web/researcher/ArcFileFormat.php: version 1 has `URL IP date type length`, version 2 has
`URL IP date type status checksum location offset filename length`. Dates have 14 digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_LINE = 8_000
_ADDRESS = rb"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]{2,39}|-)"
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,30}:")
_FIELDS = re.compile(rb" " + _ADDRESS + rb" (\d{8,17}|null) ")
_REST = re.compile(rb"([^\n]{0,1000}?) ?(\d{1,15})[ \t]*\r?\n")
ARC_START = rb"[A-Za-z][A-Za-z0-9+.-]{0,30}:[^\s]{0,6000} " + _ADDRESS + rb" \d{14} [^\s]{1,200} (?:[^\s]{1,500} ){0,5}\d{1,15}[ \t]*\r?\n"
"""What begins an ARC record where it must be told from other text: no blank in the URL, five to ten fields."""


@dataclass(frozen=True, slots=True)
class ArcLine:
    """What the line says; `length` counts the bytes after it."""

    url: bytes
    date: bytes
    media_type: bytes
    length: int
    end: int


def read_arc_line(data: bytes, at: int) -> ArcLine | None:
    """Reads the line that begins at `at`; None where it is no ARC header."""
    scheme = _SCHEME.match(data, at)
    if scheme is None:
        return None
    # The first fields that fit end the URL, which may have blanks; trying the others too would cost their square.
    fields = _FIELDS.search(data, scheme.end(), max(data.find(b"\n", at, at + LONGEST_LINE), 0))
    rest = _REST.match(data, fields.end()) if fields else None
    if fields is None or rest is None:
        return None
    return ArcLine(data[at : fields.start()], fields[1], rest[1].split(b" ")[0], int(rest[2]), rest.end())
