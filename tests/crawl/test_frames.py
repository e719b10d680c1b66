"""Records of WARC and ARC files, with fastwarc as a second opinion."""

import gzip
import io
import time
from pathlib import Path

import pytest
import zstandard
from fastwarc.warc import ArchiveIterator

from persona_hub.crawl.arc import read_arc_line
from persona_hub.crawl.frames import MAX_HEADER, Frame, frame_records
from persona_hub.crawl.members import MemberStream
from persona_hub.crawl.report import ReadReport

WARC = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n"
ARC1 = b"http://a.example/%d 127.0.0.1 20080430204825 text/html 5\nhello\n"
ARC2 = b"http://a.example/%d 127.0.0.1 20080430204825 text/html 200 XYZ - 17 file.arc 5\nhello\n"
FILEDESC = b"filedesc://x.arc 0.0.0.0 20080430204825 text/plain 77\n1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n\n\n"


def frame(data: bytes) -> tuple[list[Frame], ReadReport]:
    report = ReadReport()
    return list(frame_records(MemberStream(io.BytesIO(data), report), report)), report


def record(body: bytes) -> bytes:
    return WARC % (len(body), body)


@pytest.mark.parametrize(
    "path",
    [
        "common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz",
        "common-crawl/CC-MAIN-2020-50-sample-one-member.warc.wet.gz",
        "common-crawl/whirlwind.warc.gz",
        "common-crawl/whirlwind.warc.wet.gz",
        "common-crawl/whirlwind.warc.wat.gz",
        "pages.warc.gz",
    ],
)
def test_fastwarc_reads_the_same(path: str, shared_data: Path) -> None:
    with (shared_data / "crawl" / path).open("rb") as ours, (shared_data / "crawl" / path).open("rb") as theirs:
        report, count = ReadReport(), 0
        frames = frame_records(MemberStream(ours, report), report)
        for one, other in zip(frames, ArchiveIterator(theirs, parse_http=False), strict=True):
            kind = str(other.record_type)
            assert (one.type, one.number, one.headers[b"warc-record-id"].decode()) == (kind, count, other.record_id.join("<>") if not other.record_id.startswith("<") else other.record_id)
            assert one.body == other.reader.read()
            count += 1
    assert count == report.records.total() > 1
    assert (report.refused, report.cut) == ({}, None)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_a_record_of_its_own_has_its_place(pack) -> None:  # type: ignore[no-untyped-def]
    parts = [pack(record(b"%d" % number * 50)) for number in range(5)]
    stored = b"".join(parts)
    frames, _ = frame(stored)
    assert [one.length for one in frames] == [len(part) for part in parts]
    for one in frames:
        [alone], _ = frame(stored[one.offset : (one.offset or 0) + (one.length or 0)])
        assert (alone.body, alone.headers) == (one.body, one.headers)


@pytest.mark.parametrize("line", [ARC1, ARC2])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_arc_records(line: bytes, pack) -> None:  # type: ignore[no-untyped-def]
    frames, report = frame(pack(FILEDESC) + pack(line % 1) + pack(line % 2))
    assert [(one.type, one.number, one.body) for one in frames[1:]] == [("arc", 1, b"hello"), ("arc", 2, b"hello")]
    assert frames[2].headers == {
        b"warc-target-uri": b"http://a.example/2", b"warc-date": b"20080430204825", b"content-type": b"text/html",
    }  # fmt: skip
    assert (report.records, report.refused) == ({"filedesc": 1, "arc": 2}, {})
    assert all(one.offset is not None for one in frames)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"http://a.example/b c 1.2.3.4 20080430204825 text/html 5\r\n", (b"http://a.example/b c", b"20080430204825", b"text/html", 5)),
        (b"dns:a.example :: 200804302048 text/dns 5 \n", (b"dns:a.example", b"200804302048", b"text/dns", 5)),
        (b"http://a.example/ - null 5\n", (b"http://a.example/", b"null", b"", 5)),
        (b"http://a.example/ 1.2.3.4 20080430204825 text/html x\n", None),
        (b"http://a.example/ 1.2.3.4 20080430204825 text/html 5", None),
        (b"http://a.example/\nx 1.2.3.4 20080430204825 text/html 5\n", None),
        (b"http://a.example/ 20080430204825 text/html 5\n", None),
        (b"/a 1.2.3.4 20080430204825 text/html 5\n", None),
    ],
)  # fmt: skip
def test_arc_lines(line: bytes, wanted: tuple[bytes, bytes, bytes, int] | None) -> None:
    found = read_arc_line(b"x" + line + b"hello", 1)
    assert (found and (found.url, found.date, found.media_type, found.length, found.end)) == (wanted and (*wanted, 1 + len(line)))


def test_arc_line_costs_no_more_than_its_length() -> None:
    began = time.process_time()
    for _ in range(1_000):
        assert read_arc_line(b"http:" + b" - 20080430" * 600 + b"1x\n", 0) is None
    assert time.process_time() - began < 3  # trying all fields that fit took 80


@pytest.mark.parametrize("version", [b"WARC/0.17", b"WARC/0.18", b"WARC/1.1", b"WARC/0.99", b"WARC/1.2.3", b"warc/1.0"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_versions_and_line_ends(version: bytes, end: bytes) -> None:
    head = [version, b"warc-TYPE:", b" Conversion", b"Content-length: 1", b"Content-Length: 9", b"no colon", b"", b"x", b"", b""]
    frames, report = frame(end.join(head) * 2)
    assert [(one.type, one.body, one.headers[b"content-length"]) for one in frames] == [("conversion", b"x", b"1")] * 2
    assert report.refused == {}


def test_a_header_that_breaks_off_costs_itself() -> None:
    frames, report = frame(b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Le" + b"\r\n" + record(b"whole"))
    assert [(one.type, one.body) for one in frames] == [("conversion", b""), ("conversion", b"whole")]
    assert report.refused == {"malformed": 1}


def test_a_header_too_long_is_skipped() -> None:
    monster = b"WARC/1.0\r\nA: " + b"x" * (MAX_HEADER + 1) + b"\r\n\r\n"
    frames, report = frame(record(b"a") + monster + record(b"b"))
    assert [one.body for one in frames] == [b"a", b"b"]
    assert report.refused == {"malformed": 1, "skipped_garbage": 1}
    assert report.skipped_bytes == len(monster)


def test_a_lost_member_ends_the_record_in_it() -> None:
    long = bytearray(gzip.compress(record(bytes(range(256)) * 4000), 0))
    long[500_000:500_010] = b"0123456789"
    frames, report = frame(gzip.compress(record(b"a")) + bytes(long) + gzip.compress(record(b"b")))
    assert [(one.body[:1], one.whole) for one in frames if one.whole] == [(b"a", True), (b"b", True)]
    assert report.refused["damaged_member"] == 1
