"""WET files, whole and broken: the real sample in its two packings, and small ones made here."""

import gzip
import hashlib
import io
import random
import struct
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from persona_hub.crawl.records import MAX_BODY, Page, ReadReport, read_origin, read_pages
from persona_hub.errors import SourceError, UnreadableFile

PACKED = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
ONE_MEMBER = "crawl/common-crawl/CC-MAIN-2020-50-sample-one-member.warc.wet.gz"


def read(data: bytes, name: str = "a.warc.wet.gz") -> tuple[list[Page], ReadReport]:
    report = ReadReport()
    return list(read_pages(io.BytesIO(data), name, report)), report


def make_record(
    body: bytes = b"hello\n", kind: str = "conversion", length: int | None = None, extra: str = ""
) -> bytes:
    identity = hashlib.md5(body).hexdigest()
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.example/\r\nWARC-Date: 2026-10-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{identity}>\r\n{extra}Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def without_place(pages: list[Page]) -> list[Page]:
    return [replace(page, offset=None, length=None) for page in pages]


def test_real_sample_is_read_whole(shared_data: Path) -> None:
    pages, report = read((shared_data / PACKED).read_bytes())
    assert report == ReadReport(
        records=Counter(conversion=318, warcinfo=1), digests_verified=318, stored_bytes=(shared_data / PACKED).stat().st_size
    )
    assert [page.record_number for page in pages] == list(range(1, 319))
    assert all(page.digest_ok and not page.invalid_utf8 and not page.body_cut for page in pages)
    first = pages[0]
    assert (first.record_id, first.url) == (
        "urn:uuid:55e6ee86-59f1-44b5-811d-1874ff4d5b58",
        "http://0001jiaxiao.com/Article/10.html",
    )
    assert (first.crawled_at, first.declared_language) == (datetime(2020, 11, 29, 22, 6, 8, tzinfo=UTC), "zho")
    assert (first.offset, first.length) == (430, 1530)
    assert first.text.startswith(" 二手压路机的保养方法")  # the byte order mark is gone


def test_every_offset_leads_back_to_its_record(shared_data: Path) -> None:
    stored = (shared_data / PACKED).read_bytes()
    pages, _ = read(stored)
    end = 430
    for page in pages:
        assert (page.offset, page.length) == (end, page.length)
        end += page.length or 0
        [alone], _ = read(stored[page.offset : end])
        assert without_place([alone]) == without_place([replace(page, record_number=0)])
    assert end == len(stored)


def test_one_member_gives_the_same_pages_without_places(shared_data: Path) -> None:
    pages, report = read((shared_data / ONE_MEMBER).read_bytes())
    expected, expected_report = read((shared_data / PACKED).read_bytes())
    assert pages == without_place(expected)
    assert report == replace(expected_report, stored_bytes=report.stored_bytes)


def test_plain_file_gives_places_too(shared_data: Path) -> None:
    plain = gzip.decompress((shared_data / PACKED).read_bytes())
    pages, _ = read(plain)
    expected, _ = read((shared_data / PACKED).read_bytes())
    assert without_place(pages) == without_place(expected)
    assert all(plain[page.offset :].startswith(b"WARC/1.0\r\n") for page in pages)
    assert (pages[-1].offset or 0) + (pages[-1].length or 0) == len(plain)


def test_truncated_gzip_gives_what_came_before(shared_data: Path) -> None:
    stored = (shared_data / PACKED).read_bytes()
    pages, report = read(stored[:500_000])
    expected, _ = read(stored)
    assert pages == expected[:142]
    assert report.records == Counter(conversion=143, warcinfo=1)
    assert report.refused == Counter(damaged_member=1, cut_record=1)
    assert report.cut == "the file ends in the middle of a member, at byte 500000"


def test_damaged_member_costs_its_own_record_only(shared_data: Path) -> None:
    stored = bytearray((shared_data / PACKED).read_bytes())
    expected, _ = read(bytes(stored))
    stored[100_000:100_004] = b"XXXX"
    pages, report = read(bytes(stored))
    [lost] = [page for page in expected if page.offset and page.offset <= 100_000 < page.offset + (page.length or 0)]
    assert [page.record_id for page in pages] == [page.record_id for page in expected if page is not lost]
    assert [page.text for page in pages] == [page.text for page in expected if page is not lost]
    assert [page.offset for page in pages] == [page.offset for page in expected if page is not lost]
    assert report.cut is None
    assert report.refused["damaged_member"] >= 1


def test_records_that_share_a_member_have_no_place() -> None:
    one, two, three, four = (make_record(name) for name in (b"1", b"2", b"3", b"4"))
    shared, alone = gzip.compress(one + two), gzip.compress(three)
    pages, _ = read(shared + alone + gzip.compress(four[:80]) + gzip.compress(four[80:]))
    assert [page.text for page in pages] == ["1", "2", "3", "4"]
    places = [(page.offset, page.length) for page in pages]
    assert places[:3] == [(None, None), (None, None), (len(shared), len(alone))]
    assert places[3][0] == len(shared + alone)  # a record that spans two members can be fetched alone


def test_rubbish_between_records_is_skipped() -> None:
    pages, report = read(make_record(b"a") + b"rubbish\r\n" + make_record(b"b"))
    assert [(page.text, page.length) for page in pages] == [("a", len(make_record(b"a"))), ("b", len(make_record(b"b")))]
    assert (report.refused, report.skipped_bytes, report.cut) == (Counter(skipped_garbage=1), 9, None)


def test_padding_after_the_last_member_is_no_cut() -> None:
    pages, report = read(gzip.compress(make_record()) + b"\0" * 512)
    assert (len(pages), report.cut) == (1, None)


def test_rubbish_between_members_is_skipped() -> None:
    one, two = gzip.compress(make_record(b"1")), gzip.compress(make_record(b"2"))
    pages, report = read(one + b"<html>" + two + b"<html>")
    assert [(page.text, page.offset, page.length) for page in pages] == [("1", 0, len(one)), ("2", len(one) + 6, len(two))]
    assert (report.refused, report.skipped_bytes, report.cut) == (Counter(skipped_garbage=2), 12, None)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"", "is empty"),
        (b"just some text\n" * 50, "begins with b'just some text"),
        (b"<!DOCTYPE html><html></html>", "begins with b'<!DOCTYPE html>"),
        (gzip.compress(b"no records in here"), "begins with b'\\x1f\\x8b"),
        (random.Random(7).randbytes(5000), "begins with b"),
        (gzip.compress(make_record(b"x" * 5000))[:60], "the file ends in the middle of a member, at byte 60"),
    ],
    ids=["empty", "text", "html", "gzip of text", "random", "cut in the first record"],
)
def test_no_warc_at_all_is_named(data: bytes, seen: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        read(data, "crawl/x.warc.wet.gz")
    assert caught.value.found.startswith("crawl/x.warc.wet.gz ")
    assert seen in caught.value.found
    assert "a WARC or ARC file" in caught.value.wanted


def test_invalid_utf8_is_replaced_and_counted() -> None:
    pages, report = read(make_record(b"caf\xe9 ok") + make_record("café".encode()))
    assert [(page.text, page.invalid_utf8) for page in pages] == [("caf\ufffd ok", True), ("café", False)]
    assert report.invalid_utf8 == 1


@pytest.mark.parametrize("length", [20, 10**12])
def test_wrong_length_costs_no_record(length: int) -> None:
    pages, report = read(make_record(b"a") + make_record(b"b", length=length) + make_record(b"c"))
    assert [(page.text, page.body_cut) for page in pages] == [("a", False), ("b", True), ("c", False)]
    assert [page.length for page in pages] == [len(make_record(b"a")), len(make_record(b"b", length=length)), len(make_record(b"c"))]
    assert (report.refused, report.cut) == (Counter(wrong_length=1), None)


def test_long_body_is_cut_and_says_so() -> None:
    digest = "WARC-Block-Digest: sha1:AAAA\r\n"
    pages, report = read(make_record(b"b" * (MAX_BODY + 1), extra=digest) + make_record(b"c"))
    assert [(len(page.text), page.body_cut, page.digest_ok) for page in pages] == [
        (MAX_BODY, True, None),
        (1, False, None),
    ]
    assert report.bodies_cut == 1


def test_digests_are_verified() -> None:
    right = "WARC-Block-Digest: sha1:VL2MMHO4YXUKFWV63YHTWSBM3GXKSQ2N\r\n"  # of b"a" is another
    pages, report = read(make_record(b"a", extra=right) + make_record(b"a", extra="WARC-Block-Digest: md5:x\r\n"))
    assert [page.digest_ok for page in pages] == [False, None]
    assert (report.digests_verified, report.digests_failed) == (0, 1)


def test_other_records_are_counted_but_are_no_pages() -> None:
    pages, report = read(make_record(kind="revisit") + make_record(b"page") + make_record(kind="strange"))
    assert [(page.record_number, page.text) for page in pages] == [(1, "page")]
    assert report.records == Counter(revisit=1, conversion=1, unknown=1)


def test_page_without_url_is_malformed() -> None:
    header = b"WARC-Target-URI: http://a.example/\r\n"
    pages, report = read(make_record(b"x").replace(header, b"") + make_record(b"y"))
    assert ([page.text for page in pages], report.refused) == (["y"], Counter(malformed=1))


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("2026-10-01T00:00:00Z", datetime(2026, 10, 1, tzinfo=UTC)),
        ("2026-10-01T02:00:00.5Z", datetime(2026, 10, 1, 2, microsecond=500_000, tzinfo=UTC)),
        ("2004-05", datetime(2004, 5, 1, tzinfo=UTC)),
        ("2004", datetime(2004, 1, 1, tzinfo=UTC)),
        ("blue monday", None),
        ("20269901", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2026-10-01T01:00:00+02:00", datetime(2026, 9, 30, 23, tzinfo=UTC)),
    ],
)
def test_date_is_read_as_far_as_it_goes(value: str, date: datetime | None) -> None:
    [page], _ = read(make_record().replace(b"2026-10-01T00:00:00Z", value.encode()))
    assert page.crawled_at == date


@pytest.mark.parametrize(
    ("value", "language"), [("zho,eng", "zho"), ("deu", "deu"), ("<script>", None), ("", None), ("English", None)]
)
def test_language_is_the_first_code(value: str, language: str | None) -> None:
    pages, _ = read(make_record(extra=f"WARC-Identified-Content-Language: {value}\r\n"))
    assert [page.declared_language for page in pages] == [language]


def test_fault_of_the_source_is_not_taken_for_the_end() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise SourceError("the host is gone")
            return super().read(size)

    with pytest.raises(SourceError, match="the host is gone"):
        list(read_pages(Broken(make_record() * 2000), "x", ReadReport()))


def test_origin_is_what_the_first_record_says(shared_data: Path) -> None:
    origin = read_origin(io.BytesIO((shared_data / PACKED).read_bytes()), "x")
    assert (origin.part_of, origin.date) == ("CC-MAIN-2020-50", datetime(2020, 12, 8, 1, 14, 31, tzinfo=UTC))
    assert read_origin(io.BytesIO(make_record(b"isPartOf: FAKE\r\n")), "x").part_of is None


def make_response(head: str, body: bytes, url: str = "http://a.example/") -> bytes:
    block = head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body
    return make_record(block, kind="response").replace(b"http://a.example/", url.encode())


STORY = b"<html><body><p>" + b"Sourdough rises slowly. " * 20 + b"</p></body></html>"


@pytest.mark.parametrize(
    ("head", "body", "rule"),
    [
        ("HTTP/1.1 200 OK\nContent-Type: text/html", STORY, None),
        ("HTTP/1.1 200 OK", STORY, None),
        ("HTTP/1.1 200 OK\nContent-Type: text/plain", b"as it is", None),
        ("HTTP/1.1 200 OK\nContent-Type: application/xhtml+xml; charset=utf-8", STORY, None),
        ("HTTP/1.1 404 Not Found\nContent-Type: text/html", STORY, "http_status"),
        ("HTTP/1.1 200 OK\nContent-Type: image/png", STORY, "media_type"),
        ("HTTP/1.1 200 OK", b"\x89PNG", "media_type"),
        ("<html>", STORY, "not_http"),
        ("HTTP/1.1 200 OK\nContent-Type: text/html\nX-Robots-Tag: noai", STORY, "noai"),
        ("HTTP/1.1 200 OK\nContent-Type: text/html", b"<meta name=robots content=noindex>" + STORY, "noindex"),
    ],
)
def test_responses_are_pages_or_say_why_not(head: str, body: bytes, rule: str | None) -> None:
    [page], report = read(make_response(head, body))
    assert (page.record_type, page.refusal and page.refusal.rule) == ("response", rule)
    assert bool(page.text) == (rule is None)
    assert report.refused == Counter()


def test_a_dns_look_up_is_no_page() -> None:
    pages, report = read(make_response("20080430204825", b"", url="dns:a.example"))
    assert (pages, report.records) == ([], Counter(response=1))


def test_arc_records_are_pages() -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"
    [page], _ = read(b"http://a.example/ 127.0.0.1 20080430204825 text/plain %d\n%b\n" % (len(body), body))
    assert (page.record_type, page.record_id, page.url, page.text) == ("arc", None, "http://a.example/", "hello")
    assert page.crawled_at == datetime(2008, 4, 30, 20, 48, 25, tzinfo=UTC)


def test_real_pages_and_their_places(shared_data: Path) -> None:
    stored = (shared_data / "crawl/pages.warc.gz").read_bytes()
    pages, report = read(stored)
    assert (len(pages), report.records, report.refused) == (1400, Counter(response=1400, warcinfo=1), Counter())
    assert Counter(page.refusal.rule for page in pages if page.refusal) == {"noindex": 16}
    for page in pages[::50]:
        [alone], _ = read(stored[page.offset : (page.offset or 0) + (page.length or 0)])
        assert without_place([alone]) == without_place([replace(page, record_number=0)])


@pytest.mark.timeout(60)
def test_headers_without_an_end_cost_no_more_than_their_bytes() -> None:
    """Each broken off by the next: with a look ahead for each one's end this would take hours."""
    count = 100_000
    pages, report = read(b"WARC/1.0\r\nA:\r\n" * count)
    assert (pages, report.records) == ([], Counter(unknown=count))


@pytest.mark.timeout(60)
def test_a_header_in_members_of_one_byte_is_read() -> None:
    record = make_record(b"hello")
    pages, _ = read(b"".join(gzip.compress(bytes([byte])) for byte in record))
    assert [page.text for page in pages] == ["hello"]


def test_frames_with_a_dictionary_have_no_place() -> None:
    """Their bytes alone do not inflate."""
    records = [make_record(b"page %d" % number) for number in range(500)]
    dictionary = zstandard.train_dictionary(4_000, records)
    head = struct.pack("<II", 0x184D2A5D, len(dictionary.as_bytes())) + dictionary.as_bytes()
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    pages, _ = read(head + b"".join(map(packer.compress, records)))
    assert [page.text for page in pages] == [f"page {number}" for number in range(500)]
    assert {page.offset for page in pages} == {None}
