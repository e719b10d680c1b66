"""The sample crawl, packed as Common Crawl packs."""

import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3

from local.mirror import PAGES, SNAPSHOT, MirrorHandler, build_mirror, read_sample_page
from persona_hub.core.page_judge import PageJudge
from persona_hub.crawl.files import Access, fetch_if_changed, make_access, open_file, read_range
from persona_hub.crawl.records import Page, ReadReport, read_pages
from persona_hub.crawl.source import find_snapshots
from persona_hub.errors import SourceError
from persona_hub.settings import CrawlSettings, load_settings

PAGE_COUNT = 52
SPECIAL = {"navigation-only", "too-short", "instructions-to-the-model", "email-and-phone"}


def read_all(files: list[Path]) -> tuple[list[Page], ReadReport]:
    report, pages = ReadReport(), []
    for file in files:
        with file.open("rb") as stream:
            pages += list(read_pages(stream, file.name, report))
    return pages, report


def test_pages_come_out_as_they_are_written(tmp_path: Path) -> None:
    pages, report = read_all(build_mirror(PAGES, tmp_path))
    written = {read_sample_page(path).url: read_sample_page(path) for path in PAGES.glob("*.txt")}
    assert len(pages) == len(written) == PAGE_COUNT
    assert report.records == Counter(conversion=PAGE_COUNT, warcinfo=2)
    assert report.digests_verified == PAGE_COUNT
    assert not report.refused
    assert report.cut is None
    assert {page.url: (page.text, page.declared_language) for page in pages} == {
        u: (w.text, w.language) for u, w in written.items()
    }
    assert len({page.record_id for page in pages}) == PAGE_COUNT
    assert all(page.offset and page.length for page in pages)
    assert Counter(page.declared_language for page in pages) == {
        "eng": 39,
        "fra": 3,
        "deu": 2,
        "spa": 2,
        "por": 2,
        "zho": 2,
        "jpn": 2,
    }


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_mirror(PAGES, tmp_path / name)
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    )
    assert len(first) == 4
    assert first == second


def test_headers_are_those_of_common_crawl(tmp_path: Path, shared_data: Path) -> None:
    def read_heads(path: Path) -> list[list[str]]:
        records = gzip.decompress(path.read_bytes()).split(b"WARC/1.0\r\n")[1:3]
        return [
            [line.split(": ")[0] for line in record.split(b"\r\n\r\n")[0].decode().split("\r\n")] for record in records
        ]

    ours = build_mirror(PAGES, tmp_path)[0]
    assert read_heads(ours) == read_heads(shared_data / "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz")


def test_files_tell_what_they_are(tmp_path: Path) -> None:
    texts = {path.stem: read_sample_page(path).text for path in PAGES.glob("*.txt")}
    copies = [name for name in texts if name.startswith("copy-of-")]
    near = [name for name in texts if name.startswith("near-copy-of-")]
    assert len(copies) == len(near) == 3
    assert all(texts[name] == texts[name.removeprefix("copy-of-")] for name in copies)
    assert all(texts[name] != texts[name.removeprefix("near-copy-of-")] for name in near)
    assert set(texts) >= SPECIAL
    assert len(set(texts.values())) == PAGE_COUNT - 3
    names = sorted(texts)
    judge = PageJudge(CrawlSettings(), frozenset())
    verdicts = judge.judge([texts[name] for name in names], ["https://a.example/"] * len(names))
    refused = {name: verdict.refusal.rule for name, verdict in zip(names, verdicts, strict=True) if verdict.refusal}
    assert refused == {"navigation-only": "navigation", "too-short": "too_short"}
    assert "ignore all previous instructions" in texts["instructions-to-the-model"]
    assert all(".example" in read_sample_page(path).url for path in PAGES.glob("*.txt"))


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """The address of the sample crawl, served as `make up` serves it."""
    build_mirror(PAGES, tmp_path / "mirror")
    handler = partial(QuietHandler, directory=str(tmp_path / "mirror"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(MirrorHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return make_access(load_settings({"PERSONA_HUB_HOME": str(tmp_path / "hub")}))


def test_mirror_is_found_over_http_as_in_the_folder(tmp_path: Path, mirror: str, access: Access) -> None:
    [remote] = find_snapshots(mirror, access)
    [local] = find_snapshots(str(tmp_path / "mirror"), access)
    assert (remote.id, remote.end_date, remote.paths) == (local.id, local.end_date, local.paths)
    assert local.id == SNAPSHOT
    with open_file(mirror, remote.paths[1], access) as stream:
        pages = list(read_pages(stream, remote.paths[1], ReadReport()))
    assert pages == read_all([tmp_path / "mirror" / remote.paths[1]])[0]


def test_mirror_serves_single_records_and_says_what_has_not_changed(
    tmp_path: Path, mirror: str, access: Access
) -> None:
    [snapshot] = find_snapshots(mirror, access)
    stored = (tmp_path / "mirror" / snapshot.paths[0]).read_bytes()
    page = read_all([tmp_path / "mirror" / snapshot.paths[0]])[0][3]
    assert page.offset and page.length
    again = read_range(mirror, snapshot.paths[0], access, page.offset, page.length)
    assert again == stored[page.offset : page.offset + page.length]
    found = fetch_if_changed(mirror, "collinfo.json", access, None)
    assert found is not None
    assert fetch_if_changed(mirror, "collinfo.json", access, found[1]) is None


@pytest.mark.parametrize(
    ("headers", "status", "span", "body"),
    [
        ({}, 200, None, b"0123456789"),
        ({"Range": "bytes=2-4"}, 206, "bytes 2-4/10", b"234"),
        ({"Range": "bytes=7-"}, 206, "bytes 7-9/10", b"789"),
        ({"Range": "bytes=7-99"}, 206, "bytes 7-9/10", b"789"),
        ({"Range": "bytes=-3"}, 206, "bytes 7-9/10", b"789"),
        ({"Range": "bytes=10-"}, 416, "bytes */10", b""),
        ({"Range": "bytes=1-2,4-5"}, 200, None, b"0123456789"),
        ({"Range": "bytes=-"}, 200, None, b"0123456789"),
        ({"Range": "bytes=2-4", "If-Range": '"another"'}, 200, None, b"0123456789"),
    ],
)
def test_ranges_of_the_mirror(
    tmp_path: Path, mirror: str, headers: dict[str, str], status: int, span: str | None, body: bytes
) -> None:
    (tmp_path / "mirror" / "x").write_bytes(b"0123456789")
    answer = urllib3.request("GET", f"{mirror}/x", headers=headers, retries=False)
    assert (answer.status, answer.headers.get("Content-Range"), answer.data) == (status, span, body)
    assert answer.headers["Content-Length"] == str(len(body))


def test_mirror_lists_folders_and_knows_what_is_not_there(mirror: str) -> None:
    assert b"collinfo.json" in urllib3.request("GET", f"{mirror}/", retries=False).data
    assert urllib3.request("GET", f"{mirror}/none", retries=False).status == 404
    assert urllib3.request("GET", f"{mirror}/../../etc/passwd", retries=False).status == 404


def test_page_without_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("URL: https://a.example/\nLanguage: eng\n\ntext\n")
    with pytest.raises(SourceError, match=r"bad\.txt has no header 'Date'"):
        build_mirror(tmp_path, tmp_path / "out")
