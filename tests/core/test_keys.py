"""Ids tell their lineage and sort as the crawl does."""

from __future__ import annotations

import re

import pytest

from persona_hub.core.keys import (
    PAGE_PATTERN,
    PERSONA_PATTERN,
    SAMPLE_PATTERN,
    SliceKey,
    page_id,
    parse_slice_key,
    persona_id,
    sample_id,
    text_hash,
)
from persona_hub.errors import UnknownSlice

SLICE = "CC-MAIN-2026-30/00012"


def test_an_id_tells_its_lineage() -> None:
    page = page_id(SLICE, 44, 123)
    persona = persona_id(page, 0)
    sample = sample_id(persona, "math", 2)
    assert sample == "CC-MAIN-2026-30/00012/000044/0000123/p0/math/s2"
    for pattern, own, others in (
        (PAGE_PATTERN, page, (persona, sample, SLICE)),
        (PERSONA_PATTERN, persona, (page, sample)),
        (SAMPLE_PATTERN, sample, (page, persona)),
    ):
        assert re.fullmatch(pattern, own)
        assert not any(re.fullmatch(pattern, other) for other in others)
    assert re.fullmatch(PERSONA_PATTERN, f"{persona}/r3/r0")  # expanded twice


def test_ids_sort_as_slices_files_and_records_do() -> None:
    places = [(1, 0, 5), (1, 0, 40), (1, 3, 1), (1, 20, 0), (2, 0, 0), (11, 0, 0)]
    ids = [page_id(str(SliceKey("S", ordinal)), file, record) for ordinal, file, record in places]
    assert sorted(ids) == ids


def test_a_slice_key_has_two_parts() -> None:
    assert parse_slice_key(SLICE) == SliceKey("CC-MAIN-2026-30", 12)
    assert str(parse_slice_key(SLICE)) == SLICE


@pytest.mark.parametrize(
    "key",
    ["", "CC-MAIN-2026-30", "CC-MAIN-2026-30/12", f"{SLICE}/", f"/{SLICE}", f"{SLICE}\n", "../00001", "a b/00001", "a'/00001",
     "CC-MAIN-2026-30/٠٠٠١٢", "CC-MAIN-2026-30/-0012"],
)  # fmt: skip
def test_another_form_is_refused_by_name(key: str) -> None:
    with pytest.raises(UnknownSlice) as raised:
        parse_slice_key(key)
    assert str(raised.value) == f"{key!r} is no slice key. Wanted: SNAPSHOT/ORDINAL such as CC-MAIN-2026-30/00012."


def test_hashes() -> None:
    assert text_hash("") == "cae66941d9efbd404e4d88758ea67670"  # BLAKE2b-128 of nothing
    assert len({text_hash(text) for text in ("a", "b", "a ", "A", "\ud83d", "�")}) == 6
    assert text_hash("é") != text_hash("e\u0301")  # nothing is normalized
