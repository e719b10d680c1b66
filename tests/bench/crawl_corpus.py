"""Crawl files of any size, made of the members of real ones."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench_tools import CHECKOUT

CHUNK = 64 * 1024


def find_data() -> Path:
    """Folder of the real crawl files, which a clone does not have."""
    folder = Path(os.environ.get("HUB_TEST_DATA") or CHECKOUT.parent / "shared" / "data") / "crawl"
    if not folder.is_dir():
        raise SystemExit(f"no test data at {folder.parent}: set HUB_TEST_DATA to their folder")
    return folder


def find_wet() -> Path:
    return find_data() / "common-crawl" / "CC-MAIN-2020-50-sample.warc.wet.gz"


def find_warc() -> Path:
    return find_data() / "pages.warc.gz"


@cache
def read_members(path: Path) -> tuple[bytes, ...]:
    """The file's gzip members as they are stored, one record each; the first is the warcinfo record."""
    return tuple(_split_members(path.read_bytes()))


def _split_members(stored: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(stored):
        inflater, end = zlib.decompressobj(31), start
        while not inflater.eof:
            inflater.decompress(stored[end : end + CHUNK])
            end += min(CHUNK, len(stored) - end)
        end -= len(inflater.unused_data)
        yield stored[start:end]
        start = end


def write_repeats(source: Path, path: Path, times: int) -> int:
    """All records of `source`, so many times over. Returns the number of records without warcinfo."""
    info, *records = read_members(source)
    every = b"".join(records)
    with path.open("wb") as out:
        out.write(info)
        for _ in range(times):
            out.write(every)
    return times * len(records)


def write_share(source: Path, path: Path, first: int, step: int, most: int | None = None) -> int:
    """Every `step`th record from `first` on, `most` of them. Returns their number."""
    info, *records = read_members(source)
    chosen = records[first::step][:most]
    path.write_bytes(b"".join([info, *chosen]))
    return len(chosen)


def write_varied(source: Path, path: Path, times: int, mark: str) -> int:
    """Like `write_repeats`, but no two texts are the same, so that none is dropped as a copy."""
    info, *records = read_members(source)
    plain = [gzip.decompress(record) for record in records]
    with path.open("wb") as out:
        out.write(info)
        for number in range(times):
            for record in plain:
                out.write(gzip.compress(_vary(record, f"\nCopy {number} in {mark}."), compresslevel=1))
    return times * len(plain)


def _vary(record: bytes, line: str) -> bytes:
    head, _, rest = record.partition(b"\r\n\r\n")
    body = rest.removesuffix(b"\r\n\r\n") + line.encode()
    digest = base64.b32encode(hashlib.sha1(body).digest())
    head = re.sub(rb"(?m)^Content-Length: \d+", b"Content-Length: %d" % len(body), head)
    head = re.sub(rb"(?m)^WARC-Block-Digest: \S+", b"WARC-Block-Digest: sha1:" + digest, head)
    return head + b"\r\n\r\n" + body + b"\r\n\r\n"
