"""Files of a crawl, by base and relative path; the base is a folder or an http(s) address."""

from __future__ import annotations

import io
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from urllib.parse import quote, unquote, urlsplit

from persona_hub.crawl.fetch import HttpStream
from persona_hub.crawl.members import CHUNK, GZIP_MAGIC, HEAD
from persona_hub.errors import SourceError

MAX_LIST = 64 * 1024 * 1024
"""Bytes of a list, inflated; the list of 100,000 WET files has 11 MB."""


def is_url(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https")


def local_path(source: str) -> Path:
    """A folder or file named by a path or a file:// URL, made absolute.

    Raises:
        SourceError: an address of another kind.
    """
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in source:
        raise SourceError(
            f"{source!r} is no address that is read here", wanted="a folder, file://, http:// or https://"
        )
    return Path(source).expanduser().absolute()


def open_file(base: str, path: str) -> BinaryIO:
    """Opens one file of a crawl as a stream of its stored bytes; the caller closes it.

    Args:
        base: folder, file:// or http(s):// address.
        path: relative to it; lists come from the web, so a path that leaves the base is refused.

    Raises:
        SourceError: not there, unreachable, or a host's HTML page where a gzip file was asked for.
    """
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "://" in path or "\0" in path:
        raise SourceError(f"Path {path!r} leaves its base {base}", wanted="a path below the base")
    if is_url(base):
        return _open_url(f"{base.rstrip('/')}/{quote(path, safe='/%:+=,~')}")
    folder = local_path(base)
    try:
        return (folder / path).open("rb")
    except OSError as error:
        raise SourceError(
            f"No file {path!r} can be read in {folder} ({error.strerror})",
            wanted=f"the crawl file {folder / path}",
            cure="check the source and its list of files",
        ) from None


def fetch_bytes(base: str, path: str) -> bytes:
    """Reads a small list whole; gzip is inflated where the path ends in `.gz`.

    Raises:
        SourceError: as `open_file`; or it is broken, or larger than `MAX_LIST`.
    """
    with open_file(base, path) as stream:
        stored = stream.read(MAX_LIST + 1)
    if path.endswith(".gz"):
        inflater = zlib.decompressobj(wbits=31)
        try:
            data = inflater.decompress(stored, MAX_LIST + 1)
        except zlib.error:
            data = b""
        if not inflater.eof and len(data) <= MAX_LIST:
            raise SourceError(
                f"{path} in {base} begins with {stored[:HEAD]!r}, {len(stored)} bytes", wanted="a whole gzip file"
            )
    else:
        data = stored
    if len(data) > MAX_LIST:
        raise SourceError(f"{path} in {base} is larger than {MAX_LIST} bytes", wanted="a list of files or snapshots")
    return data


def _open_url(url: str) -> BinaryIO:
    raw = HttpStream(url)
    stream = io.BufferedReader(raw, CHUNK)
    head = stream.peek(HEAD)[:HEAD]
    if url.endswith(".gz") and not head.startswith(GZIP_MAGIC):
        stream.close()
        raise SourceError(
            f"{url} gave {raw.content_type} that begins with {head!r}" if head else f"{url} gave nothing",
            wanted="a gzip file",
            cure="check the address; a login page or a proxy may have answered",
        )
    return cast(BinaryIO, stream)
