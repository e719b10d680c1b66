"""HTTP responses as crawlers stored them, true to their heads or not."""

import gzip
import time
import zlib

import brotli
import pytest
import zstandard

from persona_hub.crawl.payload import MAX_DECODED, HttpResponse, decode_body, parse_response

PAGE = b"<p>" + b"hello " * 50


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def decode(body: bytes, **headers: bytes) -> tuple[bytes, bool]:
    return decode_body(HttpResponse(200, {name.replace("_", "-").encode(): value for name, value in headers.items()}, body))


@pytest.mark.parametrize(
    ("block", "status", "headers", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nx", 200, {b"a": b"b"}, b"x"),
        (b"HTTP/2 404\r\n\r\nx", 404, {}, b"x"),
        (b"ICY 200 OK\nA: b\n\nx", 200, {b"a": b"b"}, b"x"),
        (b"\r\nHTTP/1.0 200\nA:b\nA: c\n d\n\nx\n\ny", 200, {b"a": b"b, c d"}, b"x\n\ny"),
        (b"HTTP/1.1 200 OK\r\nA: b", 200, {b"a": b"b"}, b""),
        (b"HTTP/1.1 301 Moved\r\nnonsense\r\n\r\n", 301, {}, b""),
    ],
)
def test_head_is_read(block: bytes, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    assert parse_response(block) == HttpResponse(status, headers, body)


@pytest.mark.parametrize("block", [b"", b"20080430204825\nwww.a.example", b"<html>", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 20000\r\n\r\n"])
def test_what_is_no_response_is_none(block: bytes) -> None:
    assert parse_response(block) is None


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        (b"gzip", gzip.compress(PAGE, mtime=0)),
        (b"X-GZIP", gzip.compress(PAGE[:9], mtime=0) + gzip.compress(PAGE[9:], mtime=0)),
        (b"deflate", zlib.compress(PAGE)),
        (b"deflate", deflate_raw(PAGE)),
        (b"br", brotli.compress(PAGE)),
        (b"zstd", zstandard.compress(PAGE)),
        (b"gzip, br", brotli.compress(gzip.compress(PAGE, mtime=0))),
        (b"identity", PAGE),
        (b"gzip", PAGE),
        (b"br", PAGE),
        (b"deflate", PAGE),
        (b"zstd", PAGE),
        (b"no such coding", PAGE),
    ],
)
def test_content_encoding_is_undone(coding: bytes, packed: bytes) -> None:
    assert decode(packed, content_encoding=coding) == (PAGE, True)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, deflate_raw, brotli.compress])
def test_broken_encoding_gives_its_beginning(pack: object) -> None:
    page = bytes(range(256)) * 40
    coding = {gzip.compress: b"gzip", brotli.compress: b"br"}.get(pack, b"deflate")  # type: ignore[call-overload]
    packed = pack(page)  # type: ignore[operator]
    body, whole = decode(packed[: len(packed) - 6], content_encoding=coding)
    assert page.startswith(body)
    assert not whole


@pytest.mark.parametrize(
    ("body", "joined", "whole"),
    [
        (b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", b"hello world", True),
        (b"5\nhello\n0\n\n", b"hello", True),
        (b"5\r\nhello\r\nA\r\n wor", b"hello wor", False),
        (b"5\r\nhello\r\nnonsense", b"hellononsense", False),
        (b"<html>not chunked", b"<html>not chunked", True),
        (b"", b"", True),
    ],
)
def test_chunks_are_joined(body: bytes, joined: bytes, whole: bool) -> None:
    assert decode(body, transfer_encoding=b"chunked") == (joined, whole)


def test_chunks_go_before_the_encoding() -> None:
    packed = gzip.compress(PAGE)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    assert decode(chunked, transfer_encoding=b"chunked", content_encoding=b"gzip") == (PAGE, True)


def test_output_is_bounded() -> None:
    body, _ = decode(gzip.compress(bytes(3 * MAX_DECODED)), content_encoding=b"gzip")
    assert len(body) == MAX_DECODED


def test_cost_does_not_grow_with_the_square_of_what_was_sent() -> None:
    began = time.process_time()
    assert decode(gzip.compress(b"x") * 200_000, content_encoding=b"gzip") == (b"x" * 200_000, True)
    response = parse_response(b"HTTP/1.1 200 OK\r\n" + b"a:b\n" * 250_000 + b"\nx")
    assert response == HttpResponse(200, {b"a": b", ".join([b"b"] * 250_000)}, b"x")
    assert time.process_time() - began < 8  # it takes a second; copying the rest for each took half a minute


def test_members_of_a_body_are_limited_together() -> None:
    packed = gzip.compress(bytes(MAX_DECODED // 2 + 1))
    body, whole = decode(packed * 3, content_encoding=b"gzip")
    assert (len(body), whole) == (MAX_DECODED, True)
    assert decode(gzip.compress(b"a") + packed[:-9], content_encoding=b"gzip")[1] is False
    assert decode(gzip.compress(b"a") + b"junk", content_encoding=b"gzip") == (b"a", True)
