"""HTTP responses as crawlers stored them: head, chunks and content encodings, read as far as they make sense.

Crawlers keep what servers sent, and some keep a head that no longer fits its body: decoded, but still called chunked or
gzip. So a body that is not what the head says is taken as it stands.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import brotli
import zstandard

MAX_DECODED = 16 * 1024 * 1024
"""Bytes that a body may decode to; the rest is not read."""
MAX_HEAD = 1024 * 1024
MAX_CODINGS = 4
STEP = 4_096
"""Stored bytes given to a decoder at once, so that little comes out before its length is looked at."""

_STATUS = re.compile(rb"[\r\n]*(?:HTTP/?\d?(?:\.\d)?|ICY|http/\d(?:\.\d)?)[ \t]+(\d{3})(?!\d)[^\n]*(?:\n|$)")
_HEAD_END = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]{0,4096})?\r?\n")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response; `headers` by name in lower case, values of one name joined by commas; `body` as it was sent."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def parse_response(block: bytes) -> HttpResponse | None:
    """Takes the block of a response record apart; None where it is no HTTP response."""
    status = _STATUS.match(block)
    if status is None:
        return None
    end = _HEAD_END.search(block, status.end() - 1, MAX_HEAD)
    head = block[status.end() : end.start() + 1] if end else block[status.end() : MAX_HEAD]
    if end and end.start() + 1 < status.end():  # no header at all
        head = b""
    if b"\n " in head or b"\n\t" in head:
        head = _FOLD.sub(b" ", head)
    values: dict[bytes, list[bytes]] = {}
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon and name:
            values.setdefault(name, []).append(value.strip())
    headers = {name: b", ".join(several) for name, several in values.items()}
    return HttpResponse(int(status[1]), headers, block[end.end() :] if end else b"")


def decode_body(response: HttpResponse) -> tuple[bytes, bool]:
    """Undoes chunks and content encodings, the last one applied first.

    Returns:
        The body, at most `MAX_DECODED` bytes of it, and whether it was decoded to its end.
    """
    body, whole = response.body, True
    transfer = _list_codings(response.headers.get(b"transfer-encoding", b""))
    if b"chunked" in transfer:
        body, whole = _join_chunks(body)
    codings = _list_codings(response.headers.get(b"content-encoding", b"")) + [c for c in transfer if c != b"chunked"]
    for coding in reversed(codings[-MAX_CODINGS:]):
        body, done = _decode(coding, body)
        whole = whole and done
    return body[:MAX_DECODED], whole


def _list_codings(value: bytes) -> list[bytes]:
    return [coding for part in value.lower().split(b",") if (coding := part.strip(b" \t\"'"))]


def _join_chunks(body: bytes) -> tuple[bytes, bool]:
    """The chunks' bytes; the body itself where it does not begin with the size of a chunk that lies inside it."""
    parts: list[bytes] = []
    at = 0
    while size := _CHUNK_SIZE.match(body, at):
        count = int(size[1], 16)
        if count == 0:
            return b"".join(parts), True
        begin, after = size.end(), size.end() + count
        if not parts and after > len(body) and not body[begin:].strip():
            break
        parts.append(body[begin:after])
        if after > len(body):
            return b"".join(parts), False
        at = after + (2 if body.startswith(b"\r\n", after) else 1 if body.startswith(b"\n", after) else 0)
    if not parts:
        return body, True
    # A size that is wrong, or a body that only looks chunked: the rest belongs to the page all the same.
    rest = body[at:]
    return b"".join(parts) + rest, not rest.strip()


def _decode(coding: bytes, body: bytes) -> tuple[bytes, bool]:
    if coding in (b"gzip", b"x-gzip"):
        return _inflate_members(body) if body.startswith(b"\x1f\x8b") else (body, True)
    if coding == b"deflate":
        return _inflate_deflate(body)
    if coding == b"br":
        return _decode_brotli(body)
    if coding == b"zstd":
        return _decode_zstd(body) if body.startswith(b"\x28\xb5\x2f\xfd") else (body, True)
    return body, True


def _inflate_members(body: bytes) -> tuple[bytes, bool]:
    parts, limit, whole, at = list[bytes](), MAX_DECODED, True, 0
    while whole and limit > 0 and body.startswith(b"\x1f\x8b", at):
        plain, whole, at = _inflate(body, 31, limit, at)
        parts.append(plain)
        limit -= len(plain)
    return b"".join(parts), whole


def _inflate_deflate(body: bytes) -> tuple[bytes, bool]:
    """The standard says zlib, many servers send raw deflate; what is neither was sent as it is."""
    for window in (15, -15):
        plain, whole, _ = _inflate(body, window, MAX_DECODED, 0)
        if plain:
            return plain, whole
    return body, not body or body.lstrip().startswith(b"<")


def _inflate(body: bytes, window: int, limit: int, begin: int) -> tuple[bytes, bool, int]:
    """What the zlib stream at `begin` inflates to, whether to its end, and where that lies."""
    inflater = zlib.decompressobj(window)
    parts: list[bytes] = []
    for at in range(begin, len(body), STEP):
        try:
            parts.append(inflater.decompress(body[at : at + STEP], limit))
        except zlib.error:
            return b"".join(parts), False, len(body)
        limit -= len(parts[-1])
        if inflater.eof:
            return b"".join(parts), True, min(at + STEP, len(body)) - len(inflater.unused_data)
        if limit <= 0 or inflater.unconsumed_tail:
            break
    return b"".join(parts), limit <= 0, len(body)


def _decode_brotli(body: bytes) -> tuple[bytes, bool]:
    decoder, parts, size = brotli.Decompressor(), [], 0
    for at in range(0, len(body), STEP):
        data = body[at : at + STEP]
        while True:
            try:
                parts.append(decoder.process(data, output_buffer_limit=STEP * 64))
            except brotli.error:
                plain = b"".join(parts)
                return (plain, False) if plain else (body, body.lstrip().startswith(b"<"))
            size += len(parts[-1])
            if size >= MAX_DECODED or decoder.is_finished():
                return b"".join(parts), True
            if decoder.can_accept_more_data():
                break
            data = b""
    return b"".join(parts), False


def _decode_zstd(body: bytes) -> tuple[bytes, bool]:
    parts, size = [], 0
    with zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(body, read_across_frames=True) as reader:
        try:
            while size < MAX_DECODED and (data := reader.read(STEP * 16)):
                parts.append(data)
                size += len(data)
        except zstandard.ZstdError:
            return b"".join(parts), False
    return b"".join(parts), True
