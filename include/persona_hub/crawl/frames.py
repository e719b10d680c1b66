"""Records of a crawl file: WARC of any version and ARC, found again after damage.

We frame records ourselves (docs/adr/0008): other readers stop at the first damage, read no ARC, or believe every
Content-Length. Names of headers may be in any case, lines may end with LF alone or be folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from persona_hub.crawl.arc import ARC_START, LONGEST_LINE, read_arc_line
from persona_hub.crawl.members import MemberStream
from persona_hub.crawl.report import ReadReport
from persona_hub.crawl.window import Window

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a record that are read; Common Crawl itself cuts what it fetches at 5 MiB or less."""
MAX_HEADER = 1024 * 1024
SKIP_STEP = 65_536
TYPES = frozenset(
    b"warcinfo response resource request metadata revisit conversion continuation".split()
)  # of WARC 1.1, section 5.5

_VERSION = re.compile(rb"[Ww][Aa][Rr][Cc]/\d[\w.]{0,20}[ \t]*\r?\n")
_WARC_START = rb"[Ww][Aa][Rr][Cc]/\d[\w.]{0,20}[ \t]*\r?\n[A-Za-z][\w-]{0,100}[ \t]*:"
_SEGMENT_START = re.compile(rb"[\r\n]*(?:[Ww][Aa][Rr][Cc]/\d|" + ARC_START + rb")")
_NEXT = {
    "warc": re.compile(rb"(?<![^\n])" + _WARC_START),
    "arc": re.compile(rb"(?<![^\n])" + ARC_START),
    "": re.compile(rb"(?<![^\n])(?:" + _WARC_START + rb"|" + ARC_START + rb")"),
}
_HEADER_STOP = re.compile(rb"\n(?:(\r?\n)|" + _WARC_START + rb")")
_FOLD = re.compile(rb"\r?\n[ \t]+")


@dataclass(frozen=True, slots=True)
class Frame:
    """A record as it stands in the file.

    Attributes:
        format: `warc` or `arc`.
        type: WARC-Type in lower case, or `unknown`; `arc`, `filedesc` or `dns`.
        headers: by name in lower case, the first of a name; of an ARC record `warc-target-uri`, `warc-date` and
            `content-type`.
        number: from 0, every record of the file counted.
        body: the block, at most `MAX_BODY` bytes of it.
        body_cut: the block has less than the header says, or more than `MAX_BODY`.
        whole: false where damage or the file's end broke it off.
        offset, length: the stored bytes that hold this record alone; None where there are none.
    """

    format: str
    type: str
    headers: dict[bytes, bytes]
    number: int
    body: bytes
    body_cut: bool
    whole: bool
    offset: int | None
    length: int | None


@dataclass(slots=True)
class _Header:
    format: str
    type: str
    headers: dict[bytes, bytes]
    length: int


def frame_records(members: MemberStream, report: ReadReport) -> Iterator[Frame]:
    """Yields the records in the order of the file, one in memory at a time; faults are counted in `report`."""
    window, number, last = Window(members, _SEGMENT_START), 0, ""
    while window.open_segment():
        segment = window.position
        while True:
            start = window.position
            window.skip_blank()
            if not window.fill(1):
                break
            header = _read_header(window, report)
            if header is None:
                _skip_garbage(window, report, last)
                continue
            last = header.format
            body, whole = _read_body(window, header, report)
            report.records[header.type] += 1
            offset = length = None
            if members.is_plain:
                offset, length = start, window.position - start
            elif members.stand_alone and start == segment and window.begin is not None and window.drained and not window.broken:
                offset, length = window.begin, window.end - window.begin
            yield Frame(
                header.format, header.type, header.headers, number, body, len(body) != header.length, whole,
                offset, length,
            )  # fmt: skip
            number += 1


def _read_header(window: Window, report: ReadReport) -> _Header | None:
    """Reads the header that begins here and passes it by; None, and nothing is passed by, where none does."""
    window.fill(LONGEST_LINE)
    if version := _VERSION.match(window.data, window.at):
        return _read_warc_header(window, version, report)
    if line := read_arc_line(window.data, window.at):
        window.at = line.end
        scheme = line.url[:9].lower()
        kind = "filedesc" if scheme == b"filedesc:" else "dns" if scheme.startswith(b"dns:") else "arc"
        headers = {b"warc-target-uri": line.url, b"warc-date": line.date, b"content-type": line.media_type}
        return _Header("arc", kind, headers, line.length)
    return None


def _read_warc_header(window: Window, version: re.Match[bytes], report: ReadReport) -> _Header | None:
    begin = version.end() - window.at
    end = _find_stop(window, begin)
    if end is None:
        stop = after = len(window.data)
    elif end[1]:
        stop, after = end.span()
    else:
        stop = after = end.start() + 1  # broken off by the next record
    if stop - window.at > MAX_HEADER:
        report.note("malformed", f"a header of more than {MAX_HEADER} bytes at byte {window.position} of the plain file")
        return None
    head = window.data[window.at + begin : stop]
    if b":" not in head:
        return None
    window.at = after
    headers = _parse_fields(head)
    kind = headers.get(b"warc-type", b"").lower()
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 18:
        report.note("malformed", f"Content-Length {length[:40]!r} in the header before byte {window.position}")
        length = b"0"
    return _Header("warc", kind.decode("ascii") if kind in TYPES else "unknown", headers, int(length))


def _find_stop(window: Window, begin: int) -> re.Match[bytes] | None:
    """Looks for the end of a header, or for the record that breaks it off: each byte once."""
    seen = begin - 1  # the line end before counts: a header without a single field ends right there
    while True:
        have = len(window.data) - window.at
        if (stop := _HEADER_STOP.search(window.data, window.at + seen)) or have > MAX_HEADER:
            return stop
        seen = max(seen, have - LONGEST_LINE)
        # Twice as much each time: pieces may be of one byte, and what is in hand is joined anew.
        if not window.fill(2 * have) and len(window.data) - window.at == have:
            return None


def _parse_fields(head: bytes) -> dict[bytes, bytes]:
    if b"\n " in head or b"\n\t" in head:
        head = _FOLD.sub(b" ", head)
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\n"):
        name, _, value = line.partition(b":")
        name = name.strip().lower()
        if name not in fields:
            fields[name] = value.strip()
    return fields


def _read_body(window: Window, header: _Header, report: ReadReport) -> tuple[bytes, bool]:
    """Reads the block and the empty lines after it, up to where the next record begins.

    Returns:
        The block, and whether it is whole.
    """
    wanted = min(header.length, MAX_BODY)
    body = window.take(wanted)
    if header.length > MAX_BODY:
        _skip_body(window, header, report)
    blank = window.skip_blank()
    if len(body) == wanted and (not window.fill(1) or _begins_record(window)):
        return body, not (header.length > MAX_BODY and window.broken)
    if cut := _find_inner(window, header.format, body, blank):
        body = cut[0]
    elif len(body) == wanted:
        return body, True  # what follows is no record: it is passed by and counted next
    elif window.broken or window.is_plain:
        fault = f"a record ends after {len(body)} of {header.length} bytes, at byte {window.position} of the plain file"
        report.note("cut_record", fault)
        if not window.broken:
            report.cut = fault
        return body, False
    report.note("wrong_length", f"a record of {header.length} bytes has {len(body)}, before byte {window.position} of the plain file")
    return body, True


def _find_inner(window: Window, kind: str, body: bytes, blank: bytes) -> tuple[bytes] | None:
    """Looks for a record that begins inside a block that is too long, and goes back to it.

    Returns:
        The block before it; None, and nothing has changed, where there is no such record.
    """
    follows = window.data[window.at : window.at + LONGEST_LINE]  # its first line may reach out of the block
    match = _NEXT[kind].search(body + blank + follows)
    if match is None or match.start() >= len(body):
        return None
    window.give_back(body[match.start() :] + blank)
    return (body[: match.start()].rstrip(b"\r\n"),)


def _begins_record(window: Window) -> bool:
    if window.data.startswith((b"WARC/", b"warc/"), window.at):
        return True
    window.fill(LONGEST_LINE)
    return read_arc_line(window.data, window.at) is not None


def _skip_body(window: Window, header: _Header, report: ReadReport) -> None:
    """Passes by what is over `MAX_BODY`; a record so long is not believed, the next record's start ends it."""
    left = header.length - MAX_BODY
    while left > 0 and window.fill(1):
        window.fill(2 * LONGEST_LINE)
        have = len(window.data) - window.at
        match = _NEXT[header.format].search(window.data, window.at)
        if match and match.start() - window.at < left:
            report.note("wrong_length", f"a record of {header.length} bytes ends before byte {window.position} of the plain file")
            window.at = match.start()
            return
        step = min(left, have if window.ended else max(have - LONGEST_LINE, 1))
        window.at += step
        left -= step


def _skip_garbage(window: Window, report: ReadReport, last: str) -> None:
    """Goes to the next record of the segment, or to its end."""
    before, seen = window.position, window.data[window.at : window.at + 60]
    while True:
        match = _NEXT[last].search(window.data, window.at + 1)
        if match:
            window.at = match.start()
            break
        window.at = max(window.at, len(window.data) - LONGEST_LINE)
        have = len(window.data) - window.at
        if not window.fill(have + SKIP_STEP) and len(window.data) - window.at == have:
            window.at = len(window.data)
            break
    report.note("skipped_garbage", f"no record at byte {before} of the plain file, but {seen!r}", window.position - before)
