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
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


def serve(folder: Path, host: str, port: int) -> None:
    """Serves the folder until the process ends; says where on its first line."""
    if not (folder / "collinfo.json").is_file():
        raise SourceError(
            f"{folder} holds no collinfo.json", wanted="a mirror", cure="python -m local.mirror build --out DIR"
        )
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer((host, port), handler) as server:
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
