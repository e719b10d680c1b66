"""Cells and codes of vectors as they are stored and sent: some ten thousand rows as one run of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.cell_candidates import CODE_RECORD, IS_HOME, IS_NEW, Records
from persona_hub.dedup.cell_pairs import vector_record
from persona_hub.dedup.codes import WORDS

_HEADER = 8
_MIX = np.uint64(0x9E3779B97F4A7C15)


def pack_cells(
    rows: NDArray[np.int64], texts: NDArray[np.int64], cells: NDArray[np.uint32], codes: NDArray[np.uint64],
    dimensions: int,
) -> bytes:  # fmt: skip
    """What is compared of n vectors: cells a row and dimensions (4 bytes each), then the n rows.

    Args:
        rows, texts: (n,) numbers of the rows and of their texts.
        cells: (n, p), a row's own, then the next by falling cosine.
        codes: (n, WORDS).
        dimensions: of the vectors, which are elsewhere.
    """
    packed = np.empty(len(rows), _make_dtype(cells.shape[1]))
    packed["row"], packed["text"], packed["cells"], packed["code"] = rows, texts, cells, codes
    return np.array([cells.shape[1], dimensions], "<u4").tobytes() + packed.tobytes()


def read_cells(block: memoryview | bytes) -> NDArray[np.void]:
    """(n,) rows: row, text, cells (p,), code (WORDS,)."""
    return np.frombuffer(block, _make_dtype(read_widths(block)[0]), offset=_HEADER)


def keep_cells(block: memoryview | bytes, kept: NDArray[np.bool_]) -> bytes:
    """The block of those rows only. Args: kept: (n,)."""
    rows = read_cells(block)[kept]
    return pack_cells(rows["row"], rows["text"], rows["cells"], rows["code"], read_widths(block)[1])


def to_code_records(block: memoryview | bytes, is_new: bool) -> Records:
    """A CODE_RECORD for each cell of each row."""
    rows = read_cells(block)
    return _spread(rows, CODE_RECORD, rows["code"], is_new)


def to_vector_records(block: memoryview | bytes, vectors: memoryview | bytes) -> Records:
    """A `vector_record` for each cell of each row, all of them new. Args: vectors: half floats of a block's rows."""
    dtype = vector_record(read_widths(block)[1])
    halves = np.frombuffer(vectors, "<f2").reshape(-1, *dtype["vector"].shape)
    return _spread(read_cells(block), dtype, halves, is_new=True)


def choose_sample(records: Records, rows: int, wanted: int) -> Records:
    """About as many rows as wanted, never many fewer, where they are at home; chosen by their numbers alone.

    Args:
        records: of some of the rows.
        rows: of which these are some.
    """
    homes = records[records["flags"] & IS_HOME > 0]
    limit = min(1.0, 2.0 * wanted / max(1, rows)) * 2.0**64
    return homes[_mix(homes) < limit]


def take_first(records: Records, wanted: int) -> Records:
    """So many records, the same whatever their order."""
    return records[np.argsort(_mix(records), kind="stable")[:wanted]]


def _mix(records: Records) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = np.ascontiguousarray(records["row"]).view(np.uint64) * _MIX
    return mixed


def _spread(rows: NDArray[np.void], dtype: np.dtype[np.void], content: NDArray[Any], is_new: bool) -> Records:
    """Args: content: (n, k), the last field of a record."""
    count, cells = rows["cells"].shape
    records = np.empty((count, cells), dtype)
    records["cell"], records["flags"] = rows["cells"], IS_NEW * is_new
    records["flags"][:, :1] |= IS_HOME
    records["text"], records["row"] = rows["text"][:, None], rows["row"][:, None]
    # As bytes: NumPy would copy a field of many values value by value.
    content = np.ascontiguousarray(content).view(np.uint8)
    records.view(np.uint8).reshape(count, cells, -1)[..., -content.shape[1] :] = content[:, None]
    return records.ravel()


def read_widths(block: memoryview | bytes) -> tuple[int, int]:
    """Cells a row, and dimensions of the vectors; of a block or of its first 8 bytes."""
    cells, dimensions = np.frombuffer(block, "<u4", 2)
    return int(cells), int(dimensions)


def _make_dtype(cells: int) -> np.dtype[np.void]:
    return np.dtype([("row", "<i8"), ("text", "<i8"), ("cells", "<u4", (cells,)), ("code", "<u8", (WORDS,))])
