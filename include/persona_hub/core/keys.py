"""Ids and hashes of rows (docs/adr/0002).

An id tells its own lineage and sorts by slice, so a slice's rows lie together in every table:

    slice    CC-MAIN-2026-30/00012                              snapshot / ordinal from 1
    page     CC-MAIN-2026-30/00012/000044/0000123               / ordinal of the file in the snapshot / record in the file
    persona  CC-MAIN-2026-30/00012/000044/0000123/p0            / number of the question asked about the page
    sample   CC-MAIN-2026-30/00012/000044/0000123/p0/math/s0    / data type / number of the question asked about the persona

File and record numbers count from 0, the warcinfo record included.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from persona_hub.errors import UnknownSlice

# [0-9], since Python's \d takes the digits of every script, and a key is compared as text.
SLICE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*/[0-9]{5}"
PAGE_PATTERN = SLICE_PATTERN + r"/[0-9]{6}/[0-9]{7}"
PERSONA_PATTERN = PAGE_PATTERN + r"/p[0-9]+(/r[0-9]+)*"
SAMPLE_PATTERN = PERSONA_PATTERN + r"/[a-z]+/s[0-9]+"


class SliceKey(NamedTuple):
    """A crawl slice: the partition of every run."""

    snapshot: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.snapshot}/{self.ordinal:05d}"


def parse_slice_key(key: str) -> SliceKey:
    """`CC-MAIN-2026-30/00012` → its parts.

    Raises:
        UnknownSlice: the key has another form.
    """
    if not re.fullmatch(SLICE_PATTERN, key):
        raise UnknownSlice(f"{key!r} is no slice key", wanted="SNAPSHOT/ORDINAL such as CC-MAIN-2026-30/00012")
    snapshot, ordinal = key.rsplit("/", 1)
    return SliceKey(snapshot, int(ordinal))


def page_id(slice_key: str, file_ordinal: int, record_number: int) -> str:
    return f"{slice_key}/{file_ordinal:06d}/{record_number:07d}"


def persona_id(page: str, sample: int) -> str:
    return f"{page}/p{sample}"


def sample_id(persona: str, data_type: str, sample: int) -> str:
    return f"{persona}/{data_type}/s{sample}"


def text_hash(text: str) -> str:
    """128-bit BLAKE2b of the UTF-8 text, in hex; lone surrogates count as themselves."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
