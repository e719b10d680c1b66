"""Files by base and path: lists, marks of what has not changed, and single records."""

from __future__ import annotations

import gzip
import io
import os
import pickle
from pathlib import Path

import pytest
from crawl_server import CrawlServer, reset, show_page, stop

from persona_hub.crawl import files
from persona_hub.crawl.access import Access, hide_secrets
from persona_hub.crawl.files import (
    fetch_bytes,
    fetch_if_changed,
    make_access,
    open_file,
    read_range,
    refuse_credentials,
)
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.errors import NotThere, SettingsError, SourceError
from persona_hub.settings import CrawlSettings, Settings

SAMPLE = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
LIST = "crawl-data/CC-MAIN-2026-30/wet.paths.gz"
LINES = b"x/1.warc.wet.gz\nx/2.warc.wet.gz\n"


def make_settings(tmp_path: Path, **crawl: object) -> Settings:
    return Settings(lake=str(tmp_path / "lake"), crawl=CrawlSettings.model_validate(crawl))


def test_access_is_made_of_the_settings_and_travels(tmp_path: Path) -> None:
    access = make_access(make_settings(tmp_path, contact=" me@a.example ", max_connections=3, max_attempts=2))
    assert access == Access(
        "persona-hub (me@a.example)", True, tmp_path / "lake" / "_limits", 3, 4.0, 60.0, 2, backoff_s=1.0
    )
    assert pickle.loads(pickle.dumps(access)) == access
    nameless = make_access(make_settings(tmp_path))
    assert (nameless.user_agent, nameless.has_contact) == ("persona-hub", False)
    for contact in ("a\r\nHost: b", "mü@a.example", "me (home)"):
        with pytest.raises(SettingsError, match="PERSONA_HUB_CRAWL__CONTACT"):
            make_access(make_settings(tmp_path, contact=contact))


def put(server: CrawlServer, folder: Path, name: str, content: bytes) -> list[str]:
    """The same file at an address and in a folder; their bases."""
    server.files[f"/{name}"] = content
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return [server.url, f"{server.url}/", str(folder), f"file://{folder}"]


def test_list_is_inflated_wherever_it_lies(server: CrawlServer, access: Access, tmp_path: Path) -> None:
    for base in put(server, tmp_path, LIST, gzip.compress(LINES)):
        assert fetch_bytes(base, LIST, access) == LINES
    for base in put(server, tmp_path, "collinfo.json", b"[]"):
        assert fetch_bytes(base, "collinfo.json", access) == b"[]"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "http://elsewhere.example/x", "a\0b"])
def test_path_that_leaves_its_base_is_refused(server: CrawlServer, access: Access, tmp_path: Path, path: str) -> None:
    for base in (str(tmp_path), server.url, "s3://bucket"):
        with pytest.raises(SourceError, match="leaves its base"):
            open_file(base, path, access)
        with pytest.raises(SourceError, match="leaves its base"):
            read_range(base, path, access, 0, 1)
    assert server.asked == []


def test_path_is_encoded_for_its_address(server: CrawlServer, access: Access) -> None:
    server.files["/a%20b%3Fc%23/%C3%BC%20x.wet"] = b"WARC"
    with open_file(server.url, "a b?c#/ü x.wet", access) as stream:
        assert stream.read() == b"WARC"


def test_missing_file_is_named_with_its_base(server: CrawlServer, access: Access, tmp_path: Path) -> None:
    for base, message in (
        (str(tmp_path), f"No file 'x/y.gz' can be read in {tmp_path} \\(No such file"),
        (server.url, rf"{server.url}/x/y\.gz answered 404 Not Found"),
    ):
        with pytest.raises(NotThere, match=message):
            open_file(base, "x/y.gz", access)
        with pytest.raises(NotThere, match=message):
            fetch_if_changed(base, "x/y.gz", access, None)
    with pytest.raises(SourceError, match="'ftp://a.example' is no folder"):
        open_file("ftp://a.example", "x", access)


def test_unchanged_list_is_not_fetched_again(server: CrawlServer, access: Access, tmp_path: Path) -> None:
    for base in put(server, tmp_path, LIST, gzip.compress(LINES)):
        found = fetch_if_changed(base, LIST, access, None)
        assert found is not None
        assert found[0] == LINES
        assert fetch_if_changed(base, LIST, access, found[1]) is None
        assert fetch_if_changed(base, LIST, access, "another mark") == found
    changed = gzip.compress(LINES + b"x/3.warc.wet.gz\n")
    for base in put(server, tmp_path, LIST, changed):
        again = fetch_if_changed(base, LIST, access, found[1])
        assert again is not None
        assert again[0] == LINES + b"x/3.warc.wet.gz\n"
        assert again[1] != found[1]


def test_condition_goes_with_the_request(server: CrawlServer, access: Access) -> None:
    server.files["/collinfo.json"] = b"[]"
    found = fetch_if_changed(server.url, "collinfo.json", access, None)
    assert found is not None
    assert found[1].startswith('http "')
    assert fetch_if_changed(server.url, "collinfo.json", access, found[1]) is None
    assert "If-None-Match" not in server.asked[0].headers
    assert server.asked[1].headers["If-None-Match"] == found[1].removeprefix("http ")


def test_host_that_ignores_conditions_or_has_no_etags(server: CrawlServer, access: Access) -> None:
    server.files["/collinfo.json"] = b"[]"
    found = fetch_if_changed(server.url, "collinfo.json", access, None)
    server.spoil("/collinfo.json", lambda request: request.serve_whole())
    assert found is not None
    assert fetch_if_changed(server.url, "collinfo.json", access, found[1]) is None
    server.validators = False
    plain = fetch_if_changed(server.url, "collinfo.json", access, found[1])
    assert plain is not None
    assert plain[1].startswith("hash ")
    assert fetch_if_changed(server.url, "collinfo.json", access, plain[1]) is None
    server.files["/collinfo.json"] = b"[1]"
    assert fetch_if_changed(server.url, "collinfo.json", access, plain[1]) is not None


def test_broken_connection_of_a_list_goes_on(server: CrawlServer, access: Access) -> None:
    content = b"".join(b"x/%d.warc.wet.gz %s\n" % (number, os.urandom(40).hex().encode()) for number in range(5_000))
    server.files[f"/{LIST}"] = gzip.compress(content)
    server.spoil(f"/{LIST}", reset(50_000), stop(30_000))
    found = fetch_if_changed(server.url, LIST, access, None)
    assert found is not None
    assert found[0] == content


def test_list_that_lies_is_refused(server: CrawlServer, access: Access, tmp_path: Path) -> None:
    whole = gzip.compress(LINES * 50)
    for content in (whole[:-9], b"<html>login</html>", b"", b"\x1f\x8b" + b"junk" * 9):
        for base in put(server, tmp_path, LIST, content):
            with pytest.raises(SourceError, match=r"wet\.paths\.gz (in .* begins with|is ).*Wanted: a (whole )?gzip file"):
                fetch_bytes(base, LIST, access)
    server.spoil("/collinfo.json", show_page())
    assert fetch_bytes(server.url, "collinfo.json", access).startswith(b"<!DOCTYPE")  # its reader says what it is


def test_bomb_of_a_list_is_refused(access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LIST", 10_000)
    (tmp_path / "x.paths.gz").write_bytes(gzip.compress(b"\n" * 1_000_000))
    with pytest.raises(SourceError, match="larger than 10000 bytes"):
        fetch_bytes(str(tmp_path), "x.paths.gz", access)
    (tmp_path / "x.json").write_bytes(b"\n" * 10_001)
    with pytest.raises(SourceError, match="larger than 10000 bytes"):
        fetch_bytes(str(tmp_path), "x.json", access)


def test_range_of_bytes_is_read_alone(server: CrawlServer, access: Access, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    for base in put(server, tmp_path, "x.warc.gz", content):
        assert read_range(base, "x.warc.gz", access, 1_000, 5_000) == content[1_000:6_000]
        assert read_range(base, "x.warc.gz", access, 299_999, 1) == content[-1:]
        assert read_range(base, "x.warc.gz", access, 5, 0) == b""
        for offset, length, there in ((299_000, 2_000, 1_000), (300_000, 1, 0), (900_000, 1, 0)):
            with pytest.raises(SourceError, match=f"has {there} bytes from byte {offset} on"):
                read_range(base, "x.warc.gz", access, offset, length)
    assert server.ranges_of("/x.warc.gz")[0] == "bytes=1000-5999"


def test_range_survives_breaks_and_hosts_without_ranges(server: CrawlServer, access: Access) -> None:
    content = os.urandom(500_000)
    server.files["/x.warc"] = content
    server.spoil("/x.warc", reset(100_000), stop(50_000))
    assert read_range(server.url, "x.warc", access, 20_000, 300_000) == content[20_000:320_000]
    assert server.ranges_of("/x.warc")[1] == "bytes=118976-319999"
    server.ranges = False
    assert read_range(server.url, "x.warc", access, 20_000, 300_000) == content[20_000:320_000]


def test_each_page_can_be_fetched_again_by_its_offset(server: CrawlServer, access: Access, shared_data: Path) -> None:
    server.files["/a.warc.wet.gz"] = (shared_data / SAMPLE).read_bytes()
    with open_file(server.url, "a.warc.wet.gz", access) as stream:
        pages = list(read_pages(stream, "a", ReadReport()))
    assert len(pages) == 318
    for page in pages[::40]:
        assert page.offset is not None and page.length is not None
        member = read_range(server.url, "a.warc.wet.gz", access, page.offset, page.length)
        [again] = read_pages(io.BytesIO(member), "a", ReadReport())
        assert (again.url, again.text, again.record_id) == (page.url, page.text, page.record_id)


@pytest.mark.parametrize(
    "base",
    [
        "https://me:hush@a.example/x", "https://me@a.example", "https://me:hu/sh@a.example", "s3://KEY:hu/sh@bucket",
        "s3://KEY:hush@bucket/x", "file://me:hush@host/x", "https://a.example/x?token=hush", "https://a.example#hush",
    ],
)  # fmt: skip
def test_address_with_credentials_is_refused(access: Access, base: str) -> None:
    for ask in (
        lambda: open_file(base, "x.wet", access),
        lambda: fetch_bytes(base, "x.json", access),
        lambda: fetch_if_changed(base, "x.json", access, None),
        lambda: read_range(base, "x.wet", access, 0, 1),
    ):
        with pytest.raises(SourceError, match="no credentials belong into an address") as raised:
            ask()
        assert "hush" not in str(raised.value)
        assert "hu/sh" not in str(raised.value)


def test_address_without_credentials_is_not_refused() -> None:
    for base in ("https://a.example:8443/x@y/", "http://[::1]:80", "s3://bucket/a@b", "/data/me@home", "file:///x@y", "a:b"):
        refuse_credentials(base)


def test_list_of_many_members_is_read_whole(server: CrawlServer, access: Access, tmp_path: Path) -> None:
    members = b"".join(gzip.compress(b"x/%d.warc.wet.gz\n" % number) for number in range(3))
    for base in put(server, tmp_path, LIST, members + bytes(512)):  # with the padding of a tape
        assert fetch_bytes(base, LIST, access) == b"x/0.warc.wet.gz\nx/1.warc.wet.gz\nx/2.warc.wet.gz\n"
    for base in put(server, tmp_path, LIST, members[:-1]) + put(server, tmp_path, LIST, members + b"junk"):
        with pytest.raises(SourceError, match="a whole gzip file"):
            fetch_bytes(base, LIST, access)


def test_folder_with_a_question_mark_is_named_whole(access: Access, tmp_path: Path) -> None:
    folder = tmp_path / "which? #2"
    folder.mkdir()
    (folder / "x.gz").write_bytes(b"no gzip")
    for act in (
        lambda: fetch_bytes(str(folder), "x.gz", access),
        lambda: open_file(str(folder), "../x", access),
        lambda: read_range(str(folder), "x.gz", access, 5, 10),
    ):
        with pytest.raises(SourceError) as raised:
            act()
        assert f"{folder} " in str(raised.value) or f"{folder}." in str(raised.value)


def test_home_that_is_none_is_no_folder(access: Access) -> None:
    with pytest.raises(NotThere, match=r"No file 'x' can be read in .*/~nobody-of-that-name/y"):
        open_file("~nobody-of-that-name/y", "x", access)


def test_secrets_of_an_address_are_hidden() -> None:
    assert hide_secrets("https://me:hush@a.example:8/x?key=hush#hush") == "https://a.example:8/x"
    assert hide_secrets("http://[hush") == "http:…"
