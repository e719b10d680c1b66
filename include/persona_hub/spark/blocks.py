"""Many rows in one binary cell, as NumPy lays them out: a million signatures cross Spark as thirty rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    make: Callable[[pa.Buffer], NDArray[Any]],
    place: Callable[[NDArray[Any]], NDArray[np.uint64]],
    parts: int,
) -> DataFrame:
    """Turns blocks of signatures into records and sorts these by the part that they belong to.

    Args:
        signed: column block.
        make: block → (k,) records of one NumPy type; runs on executors.
        place: (k,) records → (k,) numbers, of which the rest by `parts` is the part.

    Returns:
        Columns part and block, to be brought together by `map_parts`.
    """

    def emit(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        waiting, held = [], 0
        for cell in (cell for batch in batches for cell in batch["block"]):
            waiting.append(make(cell.as_buffer()))
            held += waiting[-1].nbytes
            if held >= BLOCK_BYTES:
                yield _cut(np.concatenate(waiting), place, parts)
                waiting, held = [], 0
        if held:
            yield _cut(np.concatenate(waiting), place, parts)

    return signed.select("block").mapInArrow(emit, "part INT, block BINARY")


def _cut(records: NDArray[Any], place: Callable[[NDArray[Any]], NDArray[np.uint64]], parts: int) -> pa.RecordBatch:
    part = (place(records) % np.uint64(parts)).astype(np.uint32)
    order = np.argsort(part, kind="stable")
    ends = np.cumsum(np.bincount(part, minlength=parts))
    records = records[order]
    blocks = [(number, block) for number, block in enumerate(np.split(records, ends[:-1])) if len(block)]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([number for number, _ in blocks], pa.int32()),
            pa.array([b.tobytes() for _, b in blocks], pa.binary()),
        ],
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


def collect_records(signed: DataFrame, make: Callable[[pa.Buffer], NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Records made of blocks on the executors, all of them brought to the driver: for those that make few."""
    blocks = collect_blocks(shuffle_records(signed, make, lambda records: np.zeros(len(records), np.uint64), 1))
    return np.concatenate([np.empty(0, dtype), *(np.frombuffer(block, dtype) for block in blocks)])


def collect_blocks(frame: DataFrame) -> list[pa.Buffer]:
    """The blocks of a frame, on the driver."""
    return [cell.as_buffer() for cell in frame.select("block").toArrow()["block"]]


def make_blocks(batch: pa.RecordBatch, make: Callable[[pa.RecordBatch], bytes]) -> pa.RecordBatch:
    """One block (SIGNED) of each slice in a batch. Args: make: the rows of one slice → their block."""
    slices = pc.unique(batch["slice"])
    parts = [batch] if len(slices) == 1 else [batch.filter(pc.equal(batch["slice"], key)) for key in slices]
    columns = [
        slices,
        pa.array([len(part) for part in parts], pa.int32()),
        pa.array([make(part) for part in parts], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, ["slice", "rows", "block"])


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
