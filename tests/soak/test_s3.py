"""Crawl files of a bucket, read from a real S3 server."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from crawl_server import make_access
from pyarrow import fs
from s3_server import KEY, SECRET, S3Server, build_tool, run_s3_server

from persona_hub.crawl.access import Access
from persona_hub.crawl.files import fetch_bytes, fetch_if_changed, open_file, read_range
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.errors import NotThere, SourceError

pytestmark = pytest.mark.timeout(900)  # the server may have to be built
SAMPLE = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
BASE = "s3://crawl/mirror"
LIST = "crawl-data/CC-MAIN-2026-30/wet.paths.gz"
SIZE = 5_000_077


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    tool = build_tool(Path(__file__).parents[2])
    with run_s3_server(tool, tmp_path_factory.mktemp("s3")) as server:
        (server.folder / "crawl").mkdir()
        yield server


@pytest.fixture(autouse=True)
def credentials(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.line.cuts.clear()
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.line.url,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return make_access(tmp_path)


def put(server: S3Server, path: str, content: bytes) -> None:
    """As another client does, so that the object has its ETag."""
    place = server.line.url.removeprefix("http://")
    client = fs.S3FileSystem(access_key=KEY, secret_key=SECRET, endpoint_override=place, scheme="http")
    with client.open_output_stream(f"crawl/mirror/{path}", compression=None) as stream:
        stream.write(content)


def test_pages_of_a_bucket_are_those_of_the_file(server: S3Server, access: Access, shared_data: Path) -> None:
    path = "a b/é+%41=(1)!~*'.warc.wet.gz"
    put(server, path, (shared_data / SAMPLE).read_bytes())
    with open_file(f"{BASE}/", path, access) as stream:
        pages = list(read_pages(stream, "a", ReadReport()))
    assert len(pages) == 318
    page = pages[100]
    assert page.offset and page.length
    assert page.text.encode() in gzip.decompress(read_range(BASE, path, access, page.offset, page.length))


def test_list_is_read_once_per_state(server: S3Server, access: Access) -> None:
    put(server, LIST, gzip.compress(b"x\ny\n"))
    assert fetch_bytes(BASE, LIST, access) == b"x\ny\n"
    found = fetch_if_changed(BASE, LIST, access, None)
    assert found is not None
    assert found[0] == b"x\ny\n"
    assert found[1].startswith('http "')
    assert fetch_if_changed(BASE, LIST, access, found[1]) is None
    put(server, LIST, gzip.compress(b"x\ny\nz\n"))
    again = fetch_if_changed(BASE, LIST, access, found[1])
    assert again is not None
    assert again[0] == b"x\ny\nz\n"


def test_objects_of_every_size_come_whole(server: S3Server, access: Access) -> None:
    for size in (0, 1, SIZE):
        content = os.urandom(size)
        put(server, "x.wet", content)
        with open_file(BASE, "x.wet", access) as stream:
            assert stream.read() == content
    assert read_range(BASE, "x.wet", access, 1_000_000, 10) == content[1_000_000:1_000_010]
    with pytest.raises(SourceError, match="has 77 bytes from byte"):
        read_range(BASE, "x.wet", access, SIZE - 77, 100)


def test_line_that_is_cut_costs_nothing(server: S3Server, tmp_path: Path, access: Access) -> None:
    """In the answer's header too (100 bytes), where pyarrow's client makes up the object's bytes."""
    content = os.urandom(SIZE)
    put(server, "x.wet", content)
    server.line.cuts[:] = [100, 1_000_000, 3_000_000, 100, 50_000]
    with open_file(BASE, "x.wet", access) as stream:
        assert stream.read() == content
    assert not server.line.cuts
    server.line.cuts[:] = [100] * 50
    before = server.line.connections
    with pytest.raises(SourceError, match=r"/crawl/mirror/x\.wet gave the range None .*, 2 times"):
        open_file(BASE, "x.wet", make_access(tmp_path, max_attempts=2))
    assert server.line.connections - before == 2


def test_object_that_is_replaced_while_it_is_read_is_refused(server: S3Server, access: Access) -> None:
    put(server, "x.wet", os.urandom(SIZE))
    server.line.cuts[:] = [2_000_000]
    with open_file(BASE, "x.wet", access) as stream:
        stream.read(100)
        put(server, "x.wet", os.urandom(SIZE))
        with pytest.raises(SourceError, match="has changed after"):
            stream.read()


def test_what_is_not_there_or_not_allowed_is_said(
    server: S3Server, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, "x.wet.gz", b"<html>")
    before = server.line.connections
    for base in (BASE, "s3://elsewhere"):
        with pytest.raises(NotThere, match=r"/none\.wet answered 404"):
            open_file(base, "none.wet", access)
    with pytest.raises(SourceError, match="begins with b'<html>'"):
        open_file(BASE, "x.wet.gz", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    with pytest.raises(SourceError, match="403 Forbidden, SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY") as raised:
        open_file(BASE, "x.wet.gz", access)
    assert "hush-hush" not in str(raised.value)
    assert server.line.connections - before == 4  # none was asked for twice
