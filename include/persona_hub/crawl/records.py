"""Pages of a crawl file: conversions of WET files, responses of WARC files, records of ARC files.

What is broken is counted in the report and never raised, with one exception: a file without a single whole record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from persona_hub.core.verdict import Rejection
from persona_hub.crawl.content import PageContent, read_content
from persona_hub.crawl.frames import MAX_BODY, Frame, frame_records
from persona_hub.crawl.members import MemberStream
from persona_hub.crawl.report import ReadReport
from persona_hub.errors import UnreadableFile

FIRST_YEAR, LAST_YEAR = 1990, 2100
PAGE_TYPES = frozenset({"conversion", "response", "arc"})
__all__ = ["MAX_BODY", "Origin", "Page", "ReadReport", "read_origin", "read_pages"]


@dataclass(frozen=True, slots=True)
class Page:
    """The text of one web page, or why its record is none.

    Attributes:
        record_number: place of the record in the file from 0, every record counted.
        record_type: `conversion`, `response` or `arc`.
        record_id: WARC-Record-ID without its brackets; ARC records have none.
        crawled_at: date of the record, aware; None where it is unreadable.
        declared_language: first code of WARC-Identified-Content-Language (ISO 639-3), if there is one.
        invalid_utf8: bytes that are no text in their charset were replaced by U+FFFD.
        body_cut: the text is the beginning of a record that is longer than `MAX_BODY`, or shorter than it says.
        digest_ok: WARC-Block-Digest against the block; None where there is no SHA-1 digest, or the block was cut.
        offset: stored byte where the record begins, `length` bytes long; both None where several records share a
            gzip member or zstd frame, so that none can be fetched alone.
        refusal: why a response is no page; its text is empty then.
    """

    record_number: int
    record_type: str
    record_id: str | None
    url: str
    crawled_at: datetime | None
    declared_language: str | None
    text: str
    invalid_utf8: bool
    body_cut: bool
    digest_ok: bool | None
    offset: int | None
    length: int | None
    refusal: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What the first record of a file says of the whole: the snapshot's id, if it has one, and its date."""

    part_of: str | None
    date: datetime | None


def read_pages(stream: BinaryIO, name: str, report: ReadReport) -> Iterator[Page]:
    """Yields the pages of a crawl file in its order, one record in memory at a time.

    Args:
        stream: the file as it is stored: gzip or zstd (a member per record or one for all) or plain.
        name: the file, for messages.
        report: counted into.

    Raises:
        UnreadableFile: not one whole record.
    """
    members, found = MemberStream(stream, report), False
    for frame in frame_records(members, report):
        if not frame.whole:
            continue
        found = True
        if frame.type in PAGE_TYPES and (page := _make_page(frame, report)):
            yield page
    if not found:
        raise _describe_unreadable(members, name, report)


def read_origin(stream: BinaryIO, name: str) -> Origin:
    """Reads the first record only.

    Raises:
        UnreadableFile: there is none.
    """
    report = ReadReport()
    members = MemberStream(stream, report)
    for frame in frame_records(members, report):
        if frame.whole:
            part_of = re.search(rb"^isPartOf:[ \t]*([!-~]+)", frame.body, re.MULTILINE | re.IGNORECASE)
            is_info = frame.type == "warcinfo"
            return Origin(part_of[1].decode("ascii") if part_of and is_info else None, _read_date(frame))
    raise _describe_unreadable(members, name, report)


def _make_page(frame: Frame, report: ReadReport) -> Page | None:
    headers = frame.headers
    url = _text(headers.get(b"warc-target-uri", b"")).strip("<>")
    if not url:
        report.note("malformed", f"record {frame.number} has no WARC-Target-URI")
        return None
    if url[:4].lower() == "dns:":  # a look-up that the crawler kept as a response
        return None
    digest_ok = None if frame.body_cut else _verify_digest(headers.get(b"warc-block-digest", b""), frame.body)
    is_text = frame.type == "conversion"
    content = PageContent(*_decode(frame.body)) if is_text else read_content(frame.body, report)
    report.digests_verified += digest_ok is True
    report.digests_failed += digest_ok is False
    report.invalid_utf8 += content.invalid
    report.bodies_cut += frame.body_cut
    language = _LANGUAGE.match(headers.get(b"warc-identified-content-language", b""))
    return Page(
        frame.number, frame.type, _text(headers.get(b"warc-record-id", b"")).strip("<>") or None, url, _read_date(frame),
        language[0].decode() if language else None, content.text, content.invalid, frame.body_cut, digest_ok,
        frame.offset, frame.length, content.refusal,
    )  # fmt: skip


_LANGUAGE = re.compile(rb"[a-z]{2,3}(?=,|$)")
_DIGITS = re.compile(rb"\D")
_FROM_BASE32 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghijklmnopqrstuv")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _read_date(frame: Frame) -> datetime | None:
    """WARC dates are of ISO 8601, some cut after the year, month or day; ARC dates have 14 digits.

    A day on which nobody crawled the web is as good as none, and far ones are more than a table can hold.
    """
    value = frame.headers.get(b"warc-date", b"")
    try:
        date = datetime.fromisoformat(value.decode("ascii"))
    except ValueError:
        digits = _DIGITS.sub(b"", value)[:14].decode()
        digits += "00000101000000"[len(digits) :]
        try:
            date = datetime.strptime(digits, "%Y%m%d%H%M%S")
        except ValueError:
            return None
    if not FIRST_YEAR <= date.year <= LAST_YEAR:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _decode(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode().removeprefix("\ufeff"), False
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").removeprefix("\ufeff"), True


def _verify_digest(header: bytes, body: bytes) -> bool | None:
    algorithm, _, expected = header.partition(b":")
    if algorithm.lower() != b"sha1" or not expected:
        return None
    actual = hashlib.sha1(body, usedforsecurity=False)
    if len(expected) == 40:
        return actual.hexdigest().encode() == expected.lower()
    if len(expected) != 32:
        return False
    try:  # base 32 by the standard's alphabet is Python's own with other digits; its decoder takes longer than SHA-1
        return int(expected.upper().translate(_FROM_BASE32), 32) == int.from_bytes(actual.digest(), "big")
    except ValueError:
        return False


def _describe_unreadable(members: MemberStream, name: str, report: ReadReport) -> UnreadableFile:
    seen = f"begins with {members.head!r}" if members.head else "is empty"
    fault = report.cut or report.first_fault
    return UnreadableFile(
        f"{name} {seen}" + (f" ({fault})" if fault else ""),
        wanted="a WARC or ARC file (plain, gzip or zstd) with at least one whole record",
        cure="fetch the file again, or take it out of the slice's list",
    )
