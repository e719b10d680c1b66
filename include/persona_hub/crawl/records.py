"""Pages of a WET file (WARC/1.0, records of type `conversion`), read as a stream with fastwarc.

What is broken is counted in the report and never raised, with one exception: a file without a single readable record.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import BinaryIO, cast

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from persona_hub.crawl.members import MemberStream
from persona_hub.errors import UnreadableFile

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a record that are read; Common Crawl itself cuts what it fetches at 5 MiB or less."""


@dataclass(frozen=True, slots=True)
class Page:
    """The text of one web page, as its WET record holds it.

    Attributes:
        record_number: place of the record in the file from 0, the warcinfo record included.
        crawled_at: WARC-Date, aware.
        language: first code of WARC-Identified-Content-Language (ISO 639-3), if there is one.
        invalid_utf8: bytes that are no UTF-8 were replaced by U+FFFD.
        body_cut: the record is longer than `MAX_BODY`, the text is its beginning.
        digest_ok: WARC-Block-Digest against the body; None where there is no SHA-1 digest, or the body was cut.
        offset: stored byte where the record begins, `length` bytes long; both None where several records share a
            gzip member, so that none can be fetched alone.
    """

    record_number: int
    record_id: str
    url: str
    crawled_at: datetime
    language: str | None
    text: str
    invalid_utf8: bool
    body_cut: bool
    digest_ok: bool | None
    offset: int | None = None
    length: int | None = None


@dataclass
class ReadReport:
    """What was met in one file; filled while `read_pages` is consumed.

    Attributes:
        records: complete records by WARC type.
        malformed: conversion records without a WARC-Target-URI, WARC-Record-ID or readable WARC-Date.
        cut: None, or where and how the file broke off; the record that it broke in is not counted.
    """

    records: Counter[str] = field(default_factory=Counter)
    digests_verified: int = 0
    digests_failed: int = 0
    invalid_utf8: int = 0
    bodies_cut: int = 0
    malformed: int = 0
    cut: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What the first record of a file says of the whole: the snapshot's id, if it has one, and its date."""

    part_of: str | None
    date: datetime | None


def read_pages(stream: BinaryIO, name: str, report: ReadReport) -> Iterator[Page]:
    """Yields the pages of a WET file in its order, one record in memory at a time.

    Args:
        stream: the file as it is stored: gzip (a member per record or one for all) or plain.
        name: the file, for messages.
        report: counted into.

    Raises:
        UnreadableFile: not one complete record.
    """
    members = MemberStream(stream)
    held: tuple[int, Page] | None = None  # a record's length is known when the next one begins
    for number, (record, body) in enumerate(_read_records(members, report)):
        start = record.stream_pos
        if held:
            yield _place(members, *held, end=start)
        page = None if body is None else _make_page(record, body, number, report)
        held = (start, page) if page else None
    if held:  # after a break nobody knows where its record ended
        yield held[1] if report.cut else _place(members, *held, end=None)
    if not report.records:
        raise _describe_unreadable(members, name, report)


def read_origin(stream: BinaryIO, name: str) -> Origin:
    """Reads the first record only.

    Raises:
        UnreadableFile: there is none.
    """
    members, report = MemberStream(stream), ReadReport()
    for record, body in _read_records(members, report):
        if body is None:
            break
        part_of = re.search(rb"^isPartOf:[ \t]*([!-~]+)", body, re.MULTILINE | re.IGNORECASE)
        is_info = record.record_type == WarcRecordType.warcinfo
        return Origin(part_of[1].decode("ascii") if part_of and is_info else None, record.record_date)
    raise _describe_unreadable(members, name, report)


def _read_records(members: MemberStream, report: ReadReport) -> Iterator[tuple[WarcRecord, bytes | None]]:
    """Records with their bodies; reports the first break and ends there, with None for the body that it cut."""
    records = iter(ArchiveIterator(cast(BinaryIO, members), parse_http=False, stream_detect=False))
    while True:
        try:
            record = next(records)
        except StopIteration:
            break
        except OSError as error:
            if error.errno is not None:  # the disk's, not the format's
                raise
            report.cut = f"no WARC record follows the first {report.records.total()} ({error})"
            break
        wanted = min(record.content_length, MAX_BODY)
        body = record.reader.read(wanted)
        if len(body) < wanted:
            report.cut = f"record {report.records.total()} ends after {len(body)} of {record.content_length} bytes"
            yield record, None
            break
        report.records[str(record.record_type)] += 1
        yield record, body
    if members.cut:
        report.cut = members.cut + (f"; {report.cut}" if report.cut else "")


def _make_page(record: WarcRecord, body: bytes, number: int, report: ReadReport) -> Page | None:
    if record.record_type != WarcRecordType.conversion:
        return None
    url, identity = _header(record, "WARC-Target-URI"), _header(record, "WARC-Record-ID")
    if not url or not identity or record.record_date is None:
        report.malformed += 1
        return None
    body_cut = record.content_length > len(body)
    digest_ok = None if body_cut else _verify_digest(_header(record, "WARC-Block-Digest"), body)
    text, invalid = _decode(body)
    report.digests_verified += digest_ok is True
    report.digests_failed += digest_ok is False
    report.invalid_utf8 += invalid
    report.bodies_cut += body_cut
    language = re.match(r"[a-z]{2,3}(?=,|$)", _header(record, "WARC-Identified-Content-Language"))
    return Page(
        number, identity.strip("<>"), url, record.record_date, language[0] if language else None,
        text, invalid, body_cut, digest_ok,
    )  # fmt: skip


def _place(members: MemberStream, start: int, page: Page, end: int | None) -> Page:
    place = members.locate(start, end)
    return replace(page, offset=place[0], length=place[1]) if place else page


def _header(record: WarcRecord, name: str) -> str:
    return (record.headers.get_bytes(name.encode()) or b"").decode("utf-8", "replace").strip()


def _decode(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return body.decode("utf-8-sig", "replace"), True


def _verify_digest(header: str, body: bytes) -> bool | None:
    algorithm, _, expected = header.partition(":")
    if algorithm.lower() != "sha1" or not expected:
        return None
    return base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode() == expected.upper()


def _describe_unreadable(members: MemberStream, name: str, report: ReadReport) -> UnreadableFile:
    seen = f"begins with {members.head!r}" if members.head else "is empty"
    return UnreadableFile(
        f"{name} {seen}" + (f" ({report.cut})" if report.cut else ""),
        wanted="a WARC file, plain or gzip, with at least one complete record",
        cure="fetch the file again, or take it out of the slice's list",
    )
