"""Files of a crawl, by base and relative path; the base is a folder, an http(s) address or an S3 bucket."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from urllib.parse import quote, unquote

from persona_hub.crawl.access import Access, hide_secrets, make_access, refuse_credentials, split_url
from persona_hub.crawl.exchange import Validators
from persona_hub.crawl.fetch import HttpStream
from persona_hub.crawl.s3 import find_object, find_signer
from persona_hub.errors import NotThere, SourceError

__all__ = [
    "Access",
    "fetch_bytes",
    "fetch_if_changed",
    "hide_secrets",
    "is_bucket",
    "is_remote",
    "is_url",
    "local_path",
    "make_access",
    "open_file",
    "read_range",
    "refuse_credentials",
]

MAX_LIST = 256 * 1024 * 1024
"""Bytes of a list, inflated; the list of 100,000 WET files has 11 MB."""
BUFFER = 131_072
HEAD = 64
GZIP_MAGIC = b"\x1f\x8b"
FILE_SUFFIXES = (".gz", ".zst", ".warc", ".arc", ".wet")
_HTML = re.compile(rb"\s*<(?:!doctype|html|head|\?xml)", re.IGNORECASE)


def is_url(source: str) -> bool:
    """Whether it is an http(s) address."""
    return split_url(source).scheme in ("http", "https")


def is_bucket(source: str) -> bool:
    """Whether it is an S3 bucket, or a place in one."""
    return split_url(source).scheme == "s3"


def is_remote(source: str) -> bool:
    """Whether it lies on another host: an address or a bucket."""
    return is_url(source) or is_bucket(source)


def local_path(source: str) -> Path:
    """A folder or file named by a path or a file:// URL, made absolute.

    Raises:
        SourceError: an address of another kind.
    """
    parts = split_url(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in source:
        raise SourceError(
            f"{hide_secrets(source)!r} is no folder", wanted="a folder, file://, http://, https:// or s3://"
        )
    return Path(os.path.expanduser(source)).absolute()  # Path's own raises where there is no such user


def open_file(base: str, path: str, access: Access) -> BinaryIO:
    """Opens one file of a crawl as a stream of its stored bytes; the caller closes it.

    Args:
        base: folder, file://, http(s):// or s3:// address.
        path: relative to it; lists come from the web, so a path that leaves the base is refused.
        access: how to go to a host.

    Raises:
        NotThere: there is no such file.
        SourceError: unreachable, or a host's HTML page where a crawl file was asked for; while reading: broken for good.
        SettingsError: the host wants a contact, and none is set.
    """
    if is_remote(base):
        return _begin(_open_remote(base, path, access), path)
    return _open_local(base, path)


def fetch_bytes(base: str, path: str, access: Access) -> bytes:
    """Reads a small list whole; gzip is inflated where the path ends in `.gz`.

    Raises:
        NotThere, SourceError, SettingsError: as `open_file`; or it is broken, or larger than `MAX_LIST`.
    """
    with open_file(base, path, access) as stream:
        return _read_list(base, path, stream)


def fetch_if_changed(base: str, path: str, access: Access, mark: str | None) -> tuple[bytes, str] | None:
    """Reads a small list, unless it is still the one that was read before.

    Args:
        mark: what this function gave for that list the last time; None: never.

    Returns:
        The list as `fetch_bytes` gives it and its mark, or None where it has not changed. The mark is made of ETag and
        date where the host has them, of date and size in a folder, else of the list itself.

    Raises:
        NotThere, SourceError, SettingsError: as `fetch_bytes`.
    """
    if not is_remote(base):
        with _open_local(base, path) as file:
            state = os.fstat(file.fileno())
            new = f"file {state.st_mtime_ns} {state.st_size}"
            return None if new == mark else (_read_list(base, path, file), new)
    kind, _, known = (mark or "").partition(" ")
    etag, _, date = known.partition("\t") if kind == "http" else ("", "", "")
    raw = _open_remote(base, path, access, known=Validators(etag, date) if etag or date else None)
    if raw.unchanged:
        raw.close()
        return None
    with _begin(raw, path) as body:
        data = _read_list(base, path, body)
    found = f"{raw.validators.etag}\t{raw.validators.date}".rstrip("\t")
    new = f"http {found}" if found else f"hash {hashlib.sha256(data).hexdigest()}"
    return None if new == mark else (data, new)


def read_range(base: str, path: str, access: Access, offset: int, length: int) -> bytes:
    """Reads `length` stored bytes from `offset` on, and asks for no others.

    Raises:
        NotThere, SourceError, SettingsError: as `open_file`; or the file ends before.
    """
    if length <= 0:
        return b""
    if is_remote(base):
        raw = _open_remote(base, path, access, start=offset, stop=offset + length)
        stream = cast(BinaryIO, io.BufferedReader(raw, BUFFER))
    else:
        stream = _open_local(base, path)
        stream.seek(offset)
    with stream:
        data = stream.read(length)
    if len(data) < length:
        raise SourceError(
            f"{path} in {base} has {len(data)} bytes from byte {offset} on",
            wanted=f"{length} bytes there",
            cure="look whether the file is the one that the row was read from",
        )
    return data


def _open_remote(
    base: str, path: str, access: Access, start: int = 0, stop: int | None = None, known: Validators | None = None
) -> HttpStream:
    _check_place(base, path)
    if is_url(base):
        return HttpStream(f"{base.rstrip('/')}/{quote(path, safe='/%:+=,~')}", access, start, stop, known)
    return HttpStream(find_object(base, path), access, start, stop, known, find_signer())


def _check_place(base: str, path: str) -> None:
    refuse_credentials(base)
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "://" in path or "\0" in path:
        raise SourceError(f"Path {path!r} leaves its base {base}", wanted="a path below the base")


def _open_local(base: str, path: str) -> BinaryIO:
    _check_place(base, path)
    folder = local_path(base)
    try:
        return (folder / path).open("rb")
    except OSError as error:
        kind = NotThere if isinstance(error, FileNotFoundError | NotADirectoryError) else SourceError
        raise kind(
            f"No file {path!r} can be read in {folder} ({error.strerror})",
            wanted=f"the crawl file {folder / path}",
            cure="check the source and its list of files",
        ) from None


def _begin(raw: HttpStream, path: str) -> BinaryIO:
    """Looks at the first bytes: a login page, or a proxy's, comes with status 200."""
    stream = io.BufferedReader(raw, BUFFER)
    try:
        head = stream.peek(HEAD)[:HEAD]
        is_page = path.endswith(FILE_SUFFIXES) and _HTML.match(head)
        # A slow host's first byte may come alone.
        if is_page or (path.endswith(".gz") and not (head and head[:2] == GZIP_MAGIC[: len(head)])):
            raise SourceError(
                f"{path} is {raw.media_type} that begins with {head!r}" if head else f"{path} is empty",
                wanted="a gzip file" if path.endswith(".gz") else "a crawl file",
                cure="check the address; a login page or a proxy may have answered",
            )
    except BaseException:
        stream.close()
        raise
    return cast(BinaryIO, stream)


def _read_list(base: str, path: str, stream: BinaryIO) -> bytes:
    place, data = f"{path} in {base}", io.BytesIO()
    packed = path.endswith(".gz")
    head = cast(io.BufferedReader, stream).peek(HEAD)[:HEAD]
    source = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if packed else stream  # of one member or of many
    try:
        if packed and not head:
            raise EOFError("it is empty")
        while part := source.read(BUFFER):
            data.write(part)
            if data.tell() > MAX_LIST:
                raise SourceError(f"{place} is larger than {MAX_LIST} bytes", wanted="a list of files or snapshots")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{place} begins with {head!r} ({error})", wanted="a whole gzip file") from None
    return data.getvalue()
