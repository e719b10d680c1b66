"""The sample crawl, packed as Common Crawl packs."""

import gzip
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.mirror import PAGES, SNAPSHOT, build_mirror, read_sample_page
from persona_hub.core.filters import check_page
from persona_hub.core.text import normalize_whitespace
from persona_hub.crawl.records import Page, ReadReport, read_pages
from persona_hub.crawl.source import find_snapshots, open_file
from persona_hub.errors import SourceError

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
    assert report == ReadReport(records=Counter(conversion=PAGE_COUNT, warcinfo=2), digests_verified=PAGE_COUNT)
    assert {page.url: (page.text, page.language) for page in pages} == {
        u: (w.text, w.language) for u, w in written.items()
    }
    assert len({page.record_id for page in pages}) == PAGE_COUNT
    assert all(page.offset and page.length for page in pages)
    assert Counter(page.language for page in pages) == {
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
    refused = {name: check_page(normalize_whitespace(text), min_chars=200) for name, text in texts.items()}
    assert {name: verdict.rule for name, verdict in refused.items() if verdict} == {
        "navigation-only": "navigation",
        "too-short": "too_short",
    }
    assert "ignore all previous instructions" in texts["instructions-to-the-model"]
    assert all(".example" in read_sample_page(path).url for path in PAGES.glob("*.txt"))


def test_mirror_is_found_over_http_as_in_the_folder(tmp_path: Path) -> None:
    files = build_mirror(PAGES, tmp_path)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        [remote] = find_snapshots(f"http://127.0.0.1:{server.server_port}/")
        with open_file(remote.base, remote.paths[1]) as stream:
            pages = list(read_pages(stream, remote.paths[1], ReadReport()))
        server.shutdown()
    [local] = find_snapshots(str(tmp_path))
    assert (remote.id, remote.end_date, remote.paths) == (local.id, local.end_date, local.paths)
    assert local.id == SNAPSHOT
    assert [tmp_path / path for path in local.paths] == files
    assert pages == read_all(files[1:])[0]


def test_page_without_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("URL: https://a.example/\nLanguage: eng\n\ntext\n")
    with pytest.raises(SourceError, match=r"bad\.txt has no header 'Date'"):
        build_mirror(tmp_path, tmp_path / "out")
