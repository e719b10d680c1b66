"""An http(s) file, from a host that misbehaves: no page is lost, none is read twice, and no wrong byte gets in."""

from __future__ import annotations

import io
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from crawl_server import (
    Act,
    CrawlServer,
    Request,
    answer,
    break_header,
    drip,
    lead_to,
    make_access,
    reset,
    say_length,
    say_nothing,
    send_chunks,
    shift,
    show_page,
    stop,
)

from persona_hub.crawl.access import Access
from persona_hub.crawl.fetch import OVERLAP, HttpStream
from persona_hub.crawl.files import open_file
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.crawl.retries import LONGEST_PAUSE_S, parse_retry_after
from persona_hub.errors import NotThere, SettingsError, SourceError

SAMPLE = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
PATH = "crawl-data/CC-MAIN-2020-50/wet/a.warc.wet.gz"
PAGES = 318


@pytest.fixture
def stored(server: CrawlServer, shared_data: Path) -> bytes:
    content = (shared_data / SAMPLE).read_bytes()
    server.files[f"/{PATH}"] = content
    return content


def read_through(base: str, path: str, access: Access) -> list[str]:
    """Addresses of the pages, by the reader that ingestion uses."""
    with open_file(base, path, access) as stream:
        return [page.url for page in read_pages(stream, path, ReadReport())]


def read_well(content: bytes) -> list[str]:
    urls = [page.url for page in read_pages(io.BytesIO(content), PATH, ReadReport())]
    assert len(urls) == PAGES
    return urls


CURED: dict[str, list[Act]] = {
    "bursts of 503": [answer(503), answer(503), answer(503)],
    "rate limits of three kinds": [answer(403), answer(429), answer(500)],
    "Retry-After in seconds": [answer(503, Retry_After="1")],
    "Retry-After as a date": [answer(429, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=1)))],
    "Retry-After that is none": [answer(503, Retry_After="soon")],
    "reset before the first byte": [reset(0)],
    "resets in mid-body": [reset(100_000), reset(300_000), reset(1), reset(200_000)],
    "orderly ends in mid-body": [stop(100_000), stop(70_000), stop(1)],
    "errors between resets": [reset(100_000), answer(503), answer(403), reset(100_000), answer(500)],
    "a Content-Length that is too large": [say_length(2_000_000)],
    "a Content-Length that is too small": [say_length(1_000)],
    "the same and ranges that are too large": [say_length(2_000_000, total=2_000_000)],
    "wrong bytes after resume": [reset(100_000), shift(7)],
    "another range after resume": [reset(100_000), lambda request: request.serve(Content_Range="bytes 0-9/10")],
    "HTML with 200 after resume": [reset(100_000), show_page()],
    "never answering": [say_nothing],
    "a header that breaks off": [
        break_header("HTTP/1.1 200 OK\r\nETag: \"x"),
        break_header("HTTP/1.1 206 Partial Content\r\nContent-Length: 12"),
        break_header("HTTP/1.1 20"),
    ],
    "a header that breaks off after resume": [
        reset(100_000),
        break_header("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 98976-20"),
        break_header("HTTP/1.1 200 OK\r\n\r\n"),
    ],
    "chunks that break off": [send_chunks(100_000), send_chunks(500_000), send_chunks()],
}


@pytest.mark.parametrize("fault", CURED)
def test_misbehaviour_loses_no_page_and_reads_none_twice(
    server: CrawlServer, access: Access, stored: bytes, tmp_path: Path, fault: str
) -> None:
    server.spoil(f"/{PATH}", *CURED[fault])
    patient = make_access(tmp_path, timeout_s=0.5) if fault == "never answering" else access
    assert read_through(server.url, PATH, patient) == read_well(stored)
    assert not server.faults[f"/{PATH}"]  # each was met


def test_slow_drip_is_left_for_a_new_connection(server: CrawlServer, tmp_path: Path, stored: bytes) -> None:
    server.spoil(f"/{PATH}", drip(0.01))
    began = time.monotonic()
    assert read_through(server.url, PATH, make_access(tmp_path, timeout_s=0.5)) == read_well(stored)
    assert time.monotonic() - began < 10  # at this pace the file would take two hours
    assert len(server.asked) == 2


def test_drip_for_ever_ends_in_an_error(server: CrawlServer, tmp_path: Path, stored: bytes) -> None:
    server.spoil(f"/{PATH}", *[drip(0.01)] * 9)
    with pytest.raises(SourceError, match=r"a\.warc\.wet\.gz gives only \d+ bytes in .* s, 3 times"):
        read_through(server.url, PATH, make_access(tmp_path, timeout_s=0.3, max_attempts=3))
    assert len(server.asked) == 3


@pytest.mark.parametrize("fault", ["bursts of 503", "wrong bytes after resume", "never answering"])
def test_misbehaviour_without_end_is_an_error(server: CrawlServer, tmp_path: Path, stored: bytes, fault: str) -> None:
    acts: dict[str, tuple[list[Act], str]] = {
        "bursts of 503": ([answer(503)] * 9, r"answered 503 Service Unavailable, 3 times"),
        "wrong bytes after resume": ([reset(100_000), *[shift(7)] * 9], "gave other bytes than before"),
        "never answering": ([say_nothing] * 9, "cannot be reached: .*timed out"),
    }
    server.spoil(f"/{PATH}", *acts[fault][0])
    with pytest.raises(SourceError, match=acts[fault][1]):
        read_through(server.url, PATH, make_access(tmp_path, timeout_s=0.3, max_attempts=3))
    assert len(server.asked) == 3


def test_connection_goes_on_at_the_byte_where_it_broke(server: CrawlServer, access: Access, stored: bytes) -> None:
    server.spoil(f"/{PATH}", reset(100_000), reset(OVERLAP + 300_000))
    with open_file(server.url, PATH, access) as stream:
        assert stream.read() == stored
    assert server.ranges_of(f"/{PATH}") == ["bytes=0-", f"bytes={100_000 - OVERLAP}-", f"bytes={400_000 - OVERLAP}-"]
    etags = [asked.headers.get("If-Range") for asked in server.asked]
    assert etags[0] is None
    assert etags[1] == etags[2] == Request(server, FakeHandler(f"/{PATH}")).etag


class FakeHandler:
    """What a Request needs to say a file's ETag."""

    def __init__(self, path: str) -> None:
        self.path = path


@pytest.mark.parametrize("validators", [True, False])
def test_host_without_ranges_is_read_again_up_to_there(
    server: CrawlServer, access: Access, stored: bytes, validators: bool
) -> None:
    server.ranges, server.validators = False, validators
    server.spoil(f"/{PATH}", reset(100_000), reset(400_000))
    with open_file(server.url, PATH, access) as stream:
        assert stream.read() == stored
    assert len(server.asked) == 3


def test_tries_count_only_without_progress(server: CrawlServer, access: Access, stored: bytes) -> None:
    server.spoil(f"/{PATH}", *[reset(OVERLAP + 70_000)] * 7)  # more breaks than tries, each after something new
    assert read_through(server.url, PATH, access) == read_well(stored)
    server.spoil(f"/{PATH}", *[reset(OVERLAP + 70)] * 9)
    with pytest.raises(SourceError, match="4 times"):
        read_through(server.url, PATH, access)


@pytest.mark.parametrize("validators", [True, False])
def test_file_that_changes_while_it_is_read_is_refused(
    server: CrawlServer, access: Access, stored: bytes, validators: bool
) -> None:
    server.validators = validators

    def replace(request: Request) -> None:
        reset(100_000)(request)
        server.files[f"/{PATH}"] = stored[:50_000] + stored[60_000:]

    server.spoil(f"/{PATH}", replace)
    with open_file(server.url, PATH, access) as stream, pytest.raises(SourceError, match="has changed|and now"):
        stream.read()
    assert len(server.asked) == 2


def test_page_with_status_200_is_no_crawl_file(server: CrawlServer, access: Access) -> None:
    for path in ("x.warc.wet.gz", "x.warc", "x.arc", "x.wet"):
        server.files[f"/{path}"] = b""
        server.spoil(f"/{path}", show_page(), show_page(b"\n <html lang=en>"))
        for _ in range(2):
            with pytest.raises(SourceError, match=rf"{path} is text/html that begins with b'.*<.*Wanted: a (gzip|crawl) file"):
                open_file(server.url, path, access)
    with pytest.raises(SourceError, match=r"x\.warc\.wet\.gz is empty"):
        open_file(server.url, "x.warc.wet.gz", access)
    with open_file(server.url, "x.wet", access) as stream:
        assert stream.read() == b""


def test_answer_without_a_length_is_not_trusted(server: CrawlServer, access: Access) -> None:
    server.spoil("/x.wet", *[break_header("HTTP/1.1 200 OK\r\n\r\nWARC/1.0\r\n")] * 9)
    with pytest.raises(SourceError, match=r"x\.wet says nothing of its length, 4 times"):
        open_file(server.url, "x.wet", access)


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_asked_for_once(server: CrawlServer, access: Access, status: int) -> None:
    server.spoil("/x.gz", answer(status))
    with pytest.raises(NotThere, match=rf"/x\.gz answered {status}"):
        open_file(server.url, "x.gz", access)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 418, 451, 501])
def test_refusal_is_no_reason_to_ask_again(server: CrawlServer, access: Access, status: int) -> None:
    server.spoil("/x.gz", answer(status))
    with pytest.raises(SourceError, match=f"answered {status}") as raised:
        open_file(server.url, "x.gz", access)
    assert not isinstance(raised.value, NotThere)
    assert len(server.asked) == 1


def test_redirects_are_followed_and_loops_are_not(server: CrawlServer, access: Access, stored: bytes) -> None:
    server.spoil("/old.gz", lead_to("/older.gz"), lead_to("/older.gz"))
    server.spoil("/older.gz", lead_to(f"{server.url}/{PATH}"), lead_to("old.gz"))
    with open_file(server.url, "old.gz", access) as stream:
        assert stream.read() == stored
    with pytest.raises(SourceError, match=r"/old\.gz leads in 2 redirects to 'http.*/old\.gz'"):
        open_file(server.url, "old.gz", access)
    server.spoil("/deep0.gz", *[lead_to(f"/deep{n}.gz") for n in range(1)])
    for number in range(20):
        server.spoil(f"/deep{number}.gz", lead_to(f"/deep{number + 1}.gz"))
    with pytest.raises(SourceError, match="leads in 1. redirects"):
        open_file(server.url, "deep1.gz", access)
    server.spoil("/away.gz", lead_to("file:///etc/passwd"))
    with pytest.raises(SourceError, match="leads in 1 redirects to 'file:///etc/passwd'"):
        open_file(server.url, "away.gz", access)


def test_host_asks_for_a_pause_and_gets_it(server: CrawlServer, access: Access, stored: bytes) -> None:
    server.spoil(f"/{PATH}", answer(503, Retry_After="1"))
    server.files["/other.gz"] = stored
    asking = threading.Thread(target=lambda: open_file(server.url, PATH, access).close())
    asking.start()
    while not server.asked:
        time.sleep(0.005)
    time.sleep(0.2)
    open_file(server.url, "other.gz", access).close()  # another reader, who keeps the pause as well
    asking.join()
    first, *later = (asked.at for asked in server.asked)
    assert len(later) == 2
    assert min(later) - first >= 0.99


def test_retry_after_is_read_in_both_forms_and_capped() -> None:
    assert parse_retry_after("7") == 7
    assert parse_retry_after("86400") == LONGEST_PAUSE_S
    assert parse_retry_after("-3") == 0
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 98 < (parse_retry_after(date) or 0) <= 100
    assert parse_retry_after(format_datetime(datetime.now(UTC) - timedelta(days=1))) == 0
    nonsense = (None, "", "soon", "nan", "Mon, 99 Foo", "Mon, 01 Jan 99999999999 00:00:00")
    assert [parse_retry_after(value) for value in nonsense] == [None] * len(nonsense)


def test_nobody_listening_is_said(access: Access) -> None:
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9/x\.gz cannot be reached: Connection refused, 4 times"):
        open_file("http://127.0.0.1:9", "x.gz", access)
    with pytest.raises(SourceError, match=r"is no address"):
        open_file("http://[1", "x.gz", access)


def test_user_agent_names_project_and_contact(server: CrawlServer, access: Access, stored: bytes) -> None:
    open_file(server.url, PATH, access).close()
    headers = server.asked[0].headers
    assert headers["User-Agent"] == "persona-hub (tests@example.org)"
    assert headers["Accept-Encoding"] == "identity"


def test_common_crawl_is_not_asked_without_a_contact(tmp_path: Path) -> None:
    nameless = make_access(tmp_path, has_contact=False)
    for base in ("https://data.commoncrawl.org", "https://commoncrawl.org:443", "http://INDEX.commoncrawl.org"):
        with pytest.raises(SettingsError, match="set PERSONA_HUB_CRAWL__CONTACT"):
            open_file(base, "x.gz", nameless)
    nameless.check_host("notcommoncrawl.org")


def test_secrets_of_a_redirect_stay_out_of_messages(server: CrawlServer, access: Access) -> None:
    server.spoil("/away.gz", *[lead_to("http://me:hush@127.0.0.1:9/other.gz?signature=abc")] * 9)
    for path in ("/loop.gz", "/loop.gz?signature=abc"):
        server.spoil(path, lead_to("/loop.gz?signature=abc"))
    for path in ("away.gz", "loop.gz"):
        with pytest.raises(SourceError, match=f"{path} (cannot be reached|leads in)") as raised:
            open_file(server.url, path, access)
        assert not [secret for secret in ("hush", "abc", "me:") if secret in str(raised.value)]


@pytest.mark.parametrize("number", ["9" * 5_000, "-1", "0x10", "1_0"])
def test_number_that_is_none_is_a_fault_of_the_answer(
    server: CrawlServer, access: Access, stored: bytes, number: str
) -> None:
    server.spoil(
        f"/{PATH}",
        lambda request: request.serve(Content_Range=f"bytes 0-{number}/{number}"),
        lambda request: request.serve(Content_Range=f"bytes {number}-9/10"),
        answer(416, Content_Range=f"bytes */{number}"),
    )
    assert read_through(server.url, PATH, access) == read_well(stored)
    server.spoil(f"/{PATH}", lambda request: request.serve(Content_Length=number))
    with open_file(server.url, PATH, access) as stream:
        assert stream.read(1_000) == stored[:1_000]


@pytest.mark.parametrize("proxy", ["http://me:hush@proxy:abc", "socks5://me:hush@127.0.0.1:9", "me:hush@127.0.0.1:9"])
def test_proxy_that_is_none_is_said_without_its_password(
    server: CrawlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    single = make_access(tmp_path, max_connections=1)
    server.files["/x.wet"] = b"WARC"
    with monkeypatch.context() as patched:
        patched.setenv("http_proxy", proxy)
        patched.setenv("no_proxy", "")
        with pytest.raises(SettingsError, match="HTTP_PROXY names no proxy") as raised:
            open_file(server.url, "x.wet", single)
        assert "hush" not in str(raised.value)
    open_file(server.url, "x.wet", single).close()  # and no turn was kept


def test_memory_does_not_grow_with_the_file(server: CrawlServer, access: Access) -> None:
    size = 200 * 1024 * 1024

    def serve_zeros(request: Request) -> None:
        request.send_head(200, {"Content-Length": str(size)})
        for _ in range(size // 65_536):
            request.send(zeros)

    zeros = bytes(65_536)
    server.spoil("/big", serve_zeros)
    tracemalloc.start()
    try:
        with open_file(server.url, "big", access) as stream:
            count = sum(len(data) for data in iter(lambda: stream.read(65_536), b""))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == size
    assert peak < 4 * 1024 * 1024


def test_closed_stream_holds_no_connection(server: CrawlServer, tmp_path: Path, stored: bytes) -> None:
    single = make_access(tmp_path, max_connections=1)
    for _ in range(3):
        with HttpStream(f"{server.url}/{PATH}", single) as stream:
            stream.read(10)
    server.spoil(f"/{PATH}", answer(404), reset(10), *[answer(500)] * 8)
    for _ in range(3):
        with pytest.raises(SourceError):
            HttpStream(f"{server.url}/{PATH}", single).read()
    assert HttpStream(f"{server.url}/{PATH}", single).read() == stored
