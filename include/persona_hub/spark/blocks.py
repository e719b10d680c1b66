"""Fixed-size records in binary cells: millions of keys cross a shuffle as a few thousand rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

BLOCK_BYTES = 48 << 20  # of the records that a task holds before it hands them on
PART_BYTES = 64 << 20  # of the records of one part, which one task holds: with its work space some 400 MB


def shuffle_records(
    rows: DataFrame,
    make: Callable[[pa.RecordBatch], NDArray[Any]],
    place: Callable[[NDArray[Any]], NDArray[np.uint64]],
    parts: int,
) -> DataFrame:
    """Turns batches of rows into records and sorts these by the part that they belong to.

    Args:
        make: batch → (k,) records of one NumPy type; runs on executors.
        place: (k,) records → (k,) numbers, of which the rest by `parts` is the part.

    Returns:
        Columns part and block, to be brought together by `map_parts`.
    """

    def emit(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        waiting, held = [], 0
        for batch in batches:
            waiting.append(make(batch))
            held += waiting[-1].nbytes
            if held >= BLOCK_BYTES:
                yield _cut(np.concatenate(waiting), place, parts)
                waiting, held = [], 0
        if held:
            yield _cut(np.concatenate(waiting), place, parts)

    return rows.mapInArrow(emit, "part INT, block BINARY")


def _cut(
    records: NDArray[Any], place: Callable[[NDArray[Any]], NDArray[np.uint64]], parts: int
) -> pa.RecordBatch:
    part = (place(records) % np.uint64(parts)).astype(np.uint32)
    order = np.argsort(part, kind="stable")
    ends = np.cumsum(np.bincount(part, minlength=parts))
    records = records[order]
    blocks = [(number, block) for number, block in enumerate(np.split(records, ends[:-1])) if len(block)]
    return pa.RecordBatch.from_arrays(
        [pa.array([number for number, _ in blocks], pa.int32()), pa.array([b.tobytes() for _, b in blocks], pa.binary())],
        ["part", "block"],
    )


def map_parts(
    blocks: DataFrame, parts: int, dtype: np.dtype[Any], function: Callable[[NDArray[Any]], pa.RecordBatch], schema: str
) -> DataFrame:
    """Brings the records of each part together, in one task, and gives them to a function.

    Args:
        function: all records of one part → rows of `schema`; runs on executors.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        blocks = [np.frombuffer(cell.as_buffer(), dtype) for batch in batches for cell in batch["block"]]
        if blocks:
            yield function(np.concatenate(blocks))

    return blocks.repartitionById(parts, "part").mapInArrow(run, schema)


def count_parts(size: int) -> int:
    """Parts for so many bytes of records: no task holds more than it can, and both cores of a small machine have work."""
    return max(2, -(-size // PART_BYTES))


def pack_cells(values: NDArray[Any], starts: NDArray[np.int64]) -> pa.Array:
    """Rows of numbers as a binary column: row i is the bytes of `values[starts[i]:starts[i + 1]]`."""
    values = np.ascontiguousarray(values)
    offsets = (starts * values.itemsize).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(starts) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(values)])


def unpack_cells(column: pa.Array, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A binary column as numbers: (m,) values, and (n + 1,) starts of its rows."""
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4).astype(np.int64)
    data = column.buffers()[2]
    values = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data else np.empty(0, np.uint8)
    return values.view(dtype), (offsets - offsets[0]) // dtype.itemsize


def read_uint64(column: pa.Array) -> NDArray[np.uint64]:
    """A BIGINT column as it was hashed: unsigned."""
    signed: NDArray[np.int64] = column.to_numpy(zero_copy_only=False)
    return signed.view(np.uint64)
