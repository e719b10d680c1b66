"""The sample crawl, packed and served as Common Crawl does: `python -m local.mirror build|serve`.

    collinfo.json                                       the list of snapshots
    crawl-data/CC-MAIN-2026-45/wet.paths.gz             the list of files
    crawl-data/CC-MAIN-2026-45/segments/…/wet/*.wet.gz  one warcinfo, then one conversion a page; a gzip member each

The pages are plain files that anyone can read, `sample_crawl/pages/*.txt`: three header lines, an empty one, the text.
Two builds of the same pages are the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import functools
import gzip
import hashlib
import io
import json
import os
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from persona_hub.errors import SourceError

PAGES = Path(__file__).parent / "sample_crawl" / "pages"
SNAPSHOT = "CC-MAIN-2026-45"
BEGAN = datetime(2026, 10, 3, 5, 0, tzinfo=UTC)
ENDED = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)
SEGMENT = f"crawl-data/{SNAPSHOT}/segments/1791000000000.45"
FILES = 2


@dataclass(frozen=True)
class SamplePage:
    """One page file: its headers, and the text as it is packed."""

    url: str
    date: str
    language: str
    text: str


def read_sample_page(path: Path) -> SamplePage:
    """Reads `URL:`, `Date:` (WARC-Date) and `Language:` (ISO 639-3), an empty line and the text.

    Raises:
        SourceError: a header is missing.
    """
    head, _, text = path.read_text("utf-8").partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    try:
        return SamplePage(headers["URL"], headers["Date"], headers["Language"], text)
    except KeyError as error:
        raise SourceError(f"{path} has no header {error}", wanted="URL, Date, Language, an empty line, text") from None


def build_mirror(pages_dir: Path, out_dir: Path) -> list[Path]:
    """Packs the pages, in the order of their dates, as one snapshot of `FILES` WET files.

    Returns:
        The WET files, in the order of the list.
    """
    pages = sorted((read_sample_page(path) for path in pages_dir.glob("*.txt")), key=lambda page: (page.date, page.url))
    if not pages:
        raise SourceError(f"No page in {pages_dir}", wanted="*.txt")
    share = -(-len(pages) // FILES)
    paths: list[str] = []
    for number in range(FILES):
        name = f"CC-MAIN-{BEGAN:%Y%m%d%H%M%S}-{ENDED:%Y%m%d%H%M%S}-{number:05d}.warc.wet.gz"
        paths.append(f"{SEGMENT}/wet/{name}")
        records = [_pack_info(name), *map(_pack_page, pages[number * share : (number + 1) * share])]
        _write(out_dir / paths[-1], b"".join(gzip.compress(record, mtime=0) for record in records))
    listing = "".join(f"{path}\n" for path in paths)
    _write(out_dir / "crawl-data" / SNAPSHOT / "wet.paths.gz", gzip.compress(listing.encode(), mtime=0))
    snapshot = {
        "id": SNAPSHOT,
        "name": "November 2026 Index (the sample crawl of Persona Hub)",
        "timegate": f"https://index.commoncrawl.example/{SNAPSHOT}/",
        "cdx-api": f"https://index.commoncrawl.example/{SNAPSHOT}-index",
        "from": f"{BEGAN:%Y-%m-%dT%H:%M:%S}",
        "to": f"{ENDED:%Y-%m-%dT%H:%M:%S}",
    }
    _write(out_dir / "collinfo.json", (json.dumps([snapshot], indent=2) + "\n").encode())
    return [out_dir / path for path in paths]


class MirrorHandler(SimpleHTTPRequestHandler):
    """Serves files as Common Crawl's host does: with an ETag, conditions and ranges, which Python's own lacks."""

    _left: int | None = None

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        path = Path(self.translate_path(self.path))
        try:
            file = path.open("rb")
        except OSError:  # a folder, or nothing there
            return super().send_head()
        state = os.fstat(file.fileno())
        etag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
        first, end = self._find_span(state.st_size, etag)
        headers = {"ETag": etag, "Last-Modified": self.date_time_string(int(state.st_mtime)), "Accept-Ranges": "bytes"}
        if self.headers["If-None-Match"] == etag:
            status, length = HTTPStatus.NOT_MODIFIED, 0
        elif first is None:
            status, length = HTTPStatus.OK, state.st_size
        elif first >= end:
            status, length = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0
            headers |= {"Content-Range": f"bytes */{state.st_size}"}
        else:
            status, length = HTTPStatus.PARTIAL_CONTENT, end - first
            headers |= {"Content-Range": f"bytes {first}-{end - 1}/{state.st_size}"}
            file.seek(first)
        self.send_response(status)
        if status != HTTPStatus.NOT_MODIFIED:
            headers |= {"Content-Type": self.guess_type(str(path)), "Content-Length": str(length)}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._left = length
        return file

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self._left is None:  # a listing of a folder
            return super().copyfile(source, outputfile)
        while self._left and (data := source.read(min(self._left, 65_536))):
            self._left -= len(data)
            outputfile.write(data)
        return None

    def _find_span(self, size: int, etag: str) -> tuple[int | None, int]:
        """First byte and end of one range that holds for this state of the file; None: the whole file."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        if not found or self.headers["If-Range"] not in (None, etag) or not any(found.groups()):
            return None, size
        first, last = found.groups()
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(int(last) + 1, size) if last else size


def serve(folder: Path, host: str, port: int) -> None:
    """Serves the folder until the process ends; says where on its first line."""
    if not (folder / "collinfo.json").is_file():
        raise SourceError(
            f"{folder} holds no collinfo.json", wanted="a mirror", cure="python -m local.mirror build --out DIR"
        )
    with ThreadingHTTPServer((host, port), functools.partial(MirrorHandler, directory=str(folder))) as server:
        print(f"serving {folder} at http://{host}:{server.server_port}", flush=True)
        server.serve_forever()


def _pack_info(name: str) -> bytes:
    body = (
        "Software-Info: persona-hub local.mirror\r\n"
        f"Extracted-Date: {format_datetime(ENDED, usegmt=True)}\r\n"
        f"isPartOf: {SNAPSHOT}\r\n"
        "operator: Persona Hub\r\n"
        "description: Sample crawl, written for this repository\r\n"
        "publisher: Persona Hub\r\n\r\n"
    ).encode()
    return _pack_record(
        {
            "WARC-Type": "warcinfo",
            "WARC-Date": f"{ENDED:%Y-%m-%dT%H:%M:%SZ}",
            "WARC-Filename": name,
            "WARC-Record-ID": _make_id("warcinfo", name),
            "Content-Type": "application/warc-fields",
        },
        body,
    )


def _pack_page(page: SamplePage) -> bytes:
    body = page.text.encode()
    digest = base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    return _pack_record(
        {
            "WARC-Type": "conversion",
            "WARC-Target-URI": page.url,
            "WARC-Date": page.date,
            "WARC-Record-ID": _make_id("conversion", page.url),
            "WARC-Refers-To": _make_id("response", page.url),
            "WARC-Block-Digest": f"sha1:{digest}",
            "WARC-Identified-Content-Language": page.language,
            "Content-Type": "text/plain",
        },
        body,
    )


def _pack_record(headers: dict[str, str], body: bytes) -> bytes:
    lines = ["WARC/1.0", *(f"{name}: {value}" for name, value in headers.items()), f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body + b"\r\n\r\n"


def _make_id(kind: str, name: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind}:{name}')}>"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.mirror", description="The sample crawl as a small mirror.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="pack the pages")
    build.add_argument("--pages", type=Path, default=PAGES)
    build.add_argument("--out", type=Path, required=True)
    run = commands.add_parser("serve", help="serve a mirror, on loopback unless told otherwise")
    run.add_argument("--folder", type=Path, required=True)
    run.add_argument("--host", default="127.0.0.1")
    run.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.command == "build":
        for path in build_mirror(arguments.pages, arguments.out):
            print(path)
    else:
        serve(arguments.folder, arguments.host, arguments.port)


if __name__ == "__main__":
    main()
