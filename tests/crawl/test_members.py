"""Members, frames and plain files as pieces."""

import gzip
import io
import random
import struct

import pytest
import zstandard

from persona_hub.crawl.members import INFLATED, MemberStream
from persona_hub.crawl.report import ReadReport


def read(data: bytes) -> tuple[list[tuple[bytes, int | None, int, bool]], ReadReport]:
    report = ReadReport()
    return [tuple(piece) for piece in MemberStream(io.BytesIO(data), report)], report  # type: ignore[misc]


def frame(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("pack", [gzip.compress, frame, lambda data: frame(data, write_checksum=True)])
def test_members_know_where_they_lie(pack) -> None:  # type: ignore[no-untyped-def]
    one, two = pack(b"one"), pack(b"two")
    pieces, report = read(one + two)
    assert [(data, begin) for data, begin, _, _ in pieces if data] == [(b"one", 0), (b"two", len(one))]
    assert pieces[-1][2] == len(one + two)
    assert (report.refused, report.cut, report.stored_bytes) == ({}, None, len(one + two))


def test_a_frame_with_an_empty_last_block_ends_where_it_ends() -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    data = packer.compress(b"one") + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) + packer.flush()
    pieces, _ = read(data)
    assert (b"".join(piece[0] for piece in pieces), pieces[0][1], pieces[-1][2]) == (b"one", 0, len(data))


def test_a_broken_dictionary_is_damage() -> None:
    dictionary = b"\x28\xb5\x2f\xfd" + b"\xff" * 30
    head = struct.pack("<II", 0x184D2A5D, len(dictionary)) + dictionary
    pieces, report = read(head + zstandard.compress(b"needs none"))
    assert pieces[-1][:2] == (b"needs none", len(head))
    assert report.refused == {"damaged_member": 1}


def test_skippable_frames_are_skipped_and_a_dictionary_is_used() -> None:
    samples = [b"WARC/1.0 record %d of many records" % n for n in range(2000)]
    dictionary = zstandard.train_dictionary(2000, samples)
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    head = struct.pack("<II", 0x184D2A5D, len(dictionary.as_bytes())) + dictionary.as_bytes()
    other = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    pieces, report = read(head + packer.compress(samples[0]) + other + packer.compress(samples[1]))
    assert [piece[0] for piece in pieces if piece[0]] == samples[:2]
    assert report.refused == {}


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_no_piece_is_large(pack) -> None:  # type: ignore[no-untyped-def]
    pieces, _ = read(pack(bytes(5_000_000)))
    assert sum(len(piece[0]) for piece in pieces) == 5_000_000
    assert max(len(piece[0]) for piece in pieces) <= INFLATED


def test_bad_checksum_is_damage_and_reading_goes_on() -> None:
    noise = random.Random(1).randbytes(5000)
    one, two = bytearray(gzip.compress(noise)), gzip.compress(b"two")
    one[-8] ^= 1
    (first, second), report = read(bytes(one) + two)
    assert noise.startswith(first[0])
    assert len(first[0]) > 4000
    assert second == (b"two", len(one), len(one + two), True)
    assert report.refused == {"damaged_member": 1}


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_every_cut_is_told(pack) -> None:  # type: ignore[no-untyped-def]
    packed = pack(b"one two three")
    for length in range(5, len(packed)):
        pieces, report = read(packed[:length])
        assert report.cut == f"the file ends in the middle of a member, at byte {length}"
        assert pieces[-1][3]


