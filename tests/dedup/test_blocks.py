"""Signatures in blocks: what was packed comes out, whole or in part, as records and as bytes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.dedup.candidates import keep_keys, make_records
from persona_hub.dedup.cell_blocks import (
    choose_sample,
    keep_cells,
    pack_cells,
    read_cells,
    read_widths,
    take_first,
    to_code_records,
    to_vector_records,
)
from persona_hub.dedup.cell_candidates import CODE_RECORD, IS_HOME, IS_NEW
from persona_hub.dedup.codes import WORDS
from persona_hub.dedup.word_blocks import keep_words, pack_words, pick_words, read_keys, read_words, to_word_records
from persona_hub.dedup.word_method import WordMethod

METHOD = WordMethod.for_words(Fraction("0.9"), "exact")
TEXTS = st.lists(st.text("ab c", max_size=30), max_size=12)


def number(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**63), 2**63, count, np.int64)


@settings(deadline=None)  # the first text of all loads tables of letters
@given(TEXTS, st.booleans(), st.data())
def test_words_come_out_as_they_were_signed(texts: list[str], is_new: bool, data: st.DataObject) -> None:
    signatures, rows = METHOD.sign(pa.array(texts, pa.string())), number(len(texts), 1)
    block = pack_words(signatures, rows, -rows)
    assert (read_words(block)["row"].tolist(), read_words(block)["text"].tolist()) == (rows.tolist(), (-rows).tolist())
    assert read_keys(block).tolist() == signatures.keys.tolist()
    assert to_word_records(block, is_new).tolist() == make_records(signatures, rows, is_new).tolist()

    chosen = np.unique(data.draw(st.lists(st.sampled_from(signatures.keys.tolist() or [7]), max_size=9)) or [8]).astype(np.uint64)
    expected = keep_keys(to_word_records(block, is_new=False), chosen)
    assert pick_words(block, chosen).tolist() == expected.tolist()

    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), np.bool_)
    some = METHOD.sign(pa.array([text for text, stays in zip(texts, kept, strict=True) if stays], pa.string()))
    assert keep_words(block, kept) == pack_words(some, rows[kept], -rows[kept])


@pytest.mark.parametrize(("cells", "dimensions"), [(1, 2), (3, 5)])
def test_cells_come_out_as_they_were_packed(cells: int, dimensions: int) -> None:
    rng, rows = np.random.default_rng(2), number(7, 3)
    lies = rng.integers(0, 2**32, (7, cells), np.uint32)
    codes = rng.integers(0, 2**64, (7, WORDS), np.uint64)
    vectors = rng.normal(0, 1, (7, dimensions)).astype(np.float16)
    block = pack_cells(rows, -rows, lies, codes, dimensions)
    assert read_widths(block) == read_widths(block[:8]) == (cells, dimensions)
    assert read_cells(block)["cells"].tolist() == lies.tolist()

    records = to_code_records(block, is_new=True)
    assert records.dtype == CODE_RECORD and len(records) == 7 * cells
    assert records["cell"].tolist() == lies.ravel().tolist()
    assert records["row"].tolist() == np.repeat(rows, cells).tolist()
    assert records["text"].tolist() == np.repeat(-rows, cells).tolist()
    assert records["code"].tolist() == np.repeat(codes, cells, axis=0).tolist()
    assert records["flags"].reshape(7, cells).tolist() == [[IS_NEW | IS_HOME] + [IS_NEW] * (cells - 1)] * 7
    assert not (to_code_records(block, is_new=False)["flags"] & IS_NEW).any()
    with_vectors = to_vector_records(block, vectors.tobytes())
    assert with_vectors["vector"].tolist() == np.repeat(vectors, cells, axis=0).tolist()
    assert with_vectors[["cell", "flags", "text", "row"]].tolist() == records[["cell", "flags", "text", "row"]].tolist()

    kept = np.array([True, False] * 3 + [True])
    assert keep_cells(block, kept) == pack_cells(rows[kept], -rows[kept], lies[kept], codes[kept], dimensions)


def test_a_sample_is_the_same_however_rows_are_divided() -> None:
    rows, nothing = number(20_000, 4), np.zeros((20_000, WORDS), np.uint64)
    cells = np.zeros((20_000, 2), np.uint32)
    whole = to_code_records(pack_cells(rows, rows, cells, nothing, 2), is_new=True)
    order = np.random.default_rng(5).permutation(20_000)
    parts = [
        choose_sample(to_code_records(pack_cells(rows[part], rows[part], cells[part], nothing[part], 2), is_new=True), 20_000, 300)
        for part in np.array_split(order, 7)
    ]
    assert 300 <= sum(map(len, parts)) < 1_000
    expected = take_first(choose_sample(whole, 20_000, 300), 300)
    assert len(expected) == 300 and (expected["flags"] & IS_HOME).all()
    assert take_first(np.concatenate(parts), 300).tobytes() == expected.tobytes()
    assert take_first(whole[whole["flags"] & IS_HOME > 0], 300).tobytes() == expected.tobytes()
    assert len(choose_sample(whole, 200, 300)) == 20_000
