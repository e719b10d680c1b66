"""Many rows in one binary cell, as NumPy lays them out: a million signatures cross Spark as thirty rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

BLOCK_BYTES = 48 << 20  # of the records that a task holds before it hands them on
PART_BYTES = 64 << 20  # of the records of one part, which one task holds: with its work space some 400 MB
SIGNED = "slice STRING, rows INT, block BINARY"  # signatures

Numbers = NDArray[np.int64]
"""xxhash64 of ids, or of the hashes of texts."""


def shuffle_records(
    signed: DataFrame,
    make: Callable[..., NDArray[Any]],
    place: Callable[[NDArray[Any]], NDArray[np.uint64]],
    parts: int,
    columns: Sequence[str] = ("block",),
) -> DataFrame:
    """Turns blocks of signatures into records and sorts these by the part that they belong to.

    Args:
        signed: has those columns, of which each cell is a run of bytes.
        make: a cell of each column → (k,) records of one NumPy type; runs on executors.
        place: (k,) records → (k,) numbers, of which the rest by `parts` is the part.

    Returns:
        Columns part and block, to be brought together by `map_parts`.
    """

    def emit(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        waiting, held = [], 0
        for cells in (cells for batch in batches for cells in zip(*batch.columns, strict=True)):
            waiting.append(make(*(cell.as_buffer() for cell in cells)))
            held += waiting[-1].nbytes
            if held >= BLOCK_BYTES:
                yield _cut(waiting, place, parts)
                waiting, held = [], 0
        if held:
            yield _cut(waiting, place, parts)

    return signed.select(*columns).mapInArrow(emit, "part INT, block BINARY")


def _cut(
    waiting: Sequence[NDArray[Any]], place: Callable[[NDArray[Any]], NDArray[np.uint64]], parts: int
) -> pa.RecordBatch:
    records = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
    part = (place(records) % np.uint64(parts)).astype(np.uint32)
    counts = np.bincount(part, minlength=parts)
    numbers = np.flatnonzero(counts).astype(np.int32)
    ends = np.cumsum(np.append(0, counts[numbers])) * records.itemsize
    ordered = np.take(records, np.argsort(part, kind="stable"))  # records[..] takes four times as long
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(ordered.view(np.uint8))]
    blocks = pa.Array.from_buffers(pa.binary(), len(numbers), buffers)
    return pa.RecordBatch.from_arrays([pa.array(numbers), blocks], ["part", "block"])


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


def collect_records(signed: DataFrame, make: Callable[[pa.Buffer], NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Records made of blocks on the executors, all of them brought to the driver: for those that make few."""
    blocks = collect_blocks(shuffle_records(signed, make, lambda records: np.zeros(len(records), np.uint64), 1))
    return np.concatenate([np.empty(0, dtype), *(np.frombuffer(block, dtype) for block in blocks)])


def collect_blocks(frame: DataFrame) -> list[pa.Buffer]:
    """The blocks of a frame, on the driver."""
    return list_buffers(frame.select("block").toArrow()["block"])


def list_buffers(cells: pa.ChunkedArray) -> list[pa.Buffer]:
    return [cell.as_buffer() for cell in cells]


def make_blocks(batch: pa.RecordBatch, make: Callable[[pa.RecordBatch], Mapping[str, bytes]]) -> pa.RecordBatch:
    """A row of each slice in a batch: slice, rows and what is made of them. Args: make: the rows of one slice → `block` and others."""
    slices = pc.unique(batch["slice"])
    parts = [batch] if len(slices) == 1 else [batch.filter(pc.equal(batch["slice"], key)) for key in slices]
    made = [make(part) for part in parts]
    columns = {name: pa.array([one[name] for one in made], pa.binary()) for name in made[0]}
    rows = pa.array([len(part) for part in parts], pa.int32())
    return pa.RecordBatch.from_pydict({"slice": slices, "rows": rows, **columns})


class Size(NamedTuple):
    """Of blocks.

    Attributes:
        rows: whose signatures they hold.
        length: bytes of all of them.
        header: first 8 bytes of one; empty where there is none.
    """

    rows: int
    length: int
    header: bytes


def measure_blocks(signed: DataFrame) -> Size:
    """One job over the blocks' lengths."""
    row = signed.agg(F.sum("rows"), F.sum(F.length("block")), F.first(F.substring("block", 1, 8))).first()
    return Size(row[0], row[1], bytes(row[2])) if row and row[0] else Size(0, 0, b"")


def map_batches(
    function: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """For `mapInArrow`: a function of one batch, which gets none that is empty."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return (function(batch) for batch in batches if batch.num_rows)

    return run


def count_parts(size: int) -> int:
    """Parts for so many bytes of records: no task holds more than it can, and both cores of a small machine have work."""
    return max(2, -(-size // PART_BYTES))
