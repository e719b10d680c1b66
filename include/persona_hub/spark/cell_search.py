"""Pairs of vectors over DataFrames: new rows among themselves by their vectors, with stored ones by codes, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.cell_candidates import (
    CODE_RECORD,
    IS_HOME,
    IS_NEW,
    Pairs,
    Records,
    collapse_texts,
    find_between,
    find_everywhere,
)
from persona_hub.dedup.cell_pairs import find_similar, vector_record
from persona_hub.dedup.codes import WORDS, code_radius
from persona_hub.spark.blocks import count_parts, map_parts, shuffle_records, unpack_cells

BROADCAST_ROWS = 100_000  # of a slice; above, the hub's codes are shuffled with it instead of read past it: 20 MB
RECALL_ROWS = 300  # of a slice, compared with every other row to see what the cells have missed
SIGMAS = 3.5  # a pair at the threshold lies beyond that many deviations of its code's distance once in 4,300
SAMPLE_SIGMAS = 6.0
CELL = np.dtype("<u4")
_PAIRS = "a BIGINT, b BIGINT, identical BOOLEAN, sampled BOOLEAN"
_NONE = np.empty(0, CODE_RECORD)


def compare_new(new: DataFrame, threshold: float) -> DataFrame:
    """Similar pairs of new rows, exact but for what the cells miss.

    Args:
        new: row_id, text_hash, cells, code, vector.

    Returns:
        Columns a, b (representatives; the lower first), identical, similarity.
    """
    first = new.select(F.length("vector"), F.length("cells")).first()
    width, cells = (first[0] // 2, first[1] // CELL.itemsize) if first else (1, 1)
    dtype = vector_record(width)
    parts = count_parts(new.count() * cells * dtype.itemsize)

    def make(batch: pa.RecordBatch) -> NDArray[Any]:
        records, place = _make_records(batch, IS_NEW, dtype)
        halves, _ = unpack_cells(batch["vector"], np.dtype("<f2"))
        records["vector"] = halves.reshape(batch.num_rows, -1)[place]
        return records

    def compare(records: NDArray[Any]) -> pa.RecordBatch:
        found = find_similar(records, threshold)
        pairs = np.concatenate([found.identical, found.pairs])
        values = np.concatenate([np.ones(len(found.identical)), found.cosines])
        same = np.arange(len(pairs)) < len(found.identical)
        columns = [pa.array(pairs[:, 0]), pa.array(pairs[:, 1]), pa.array(same), pa.array(values)]
        return pa.RecordBatch.from_arrays(columns, ["a", "b", "identical", "similarity"])

    blocks = shuffle_records(_select_codes(new, "vector"), make, _place, parts)
    found = map_parts(blocks, parts, dtype, compare, "a BIGINT, b BIGINT, identical BOOLEAN, similarity DOUBLE")
    return found.dropDuplicates(["a", "b"])


def find_candidates(new: DataFrame, stored: DataFrame | None, threshold: float, *, sample: bool) -> DataFrame | None:
    """Pairs of a new and a stored row whose codes are near, in their cells; and of a sample of new rows with all rows.

    Returns:
        Columns a, b, identical (none is), sampled; None where nothing is to be compared.
    """
    queries = _choose_queries(new) if sample else _NONE
    radii = code_radius(threshold, SIGMAS), code_radius(threshold, SAMPLE_SIGMAS)
    found = [_read_past(new, _NONE, queries, radii)] if len(queries) else []
    if stored is not None and new.count() <= BROADCAST_ROWS:
        own = [_NONE, *(_make_codes(batch, IS_NEW) for batch in _select_codes(new).toArrow().to_batches())]
        found.append(_read_past(stored, collapse_texts(np.concatenate(own))[0], queries, radii))
    elif stored is not None:
        found.append(_meet(new, stored, radii[0]))
        found += [_read_past(stored, _NONE, queries, radii)] if len(queries) else []
    return reduce(DataFrame.unionByName, found).dropDuplicates(["a", "b", "sampled"]) if found else None


def _read_past(rows: DataFrame, own: Records, queries: Records, radii: tuple[int, int]) -> DataFrame:
    """Codes go by the slice's own, and by those of the sample, which every task has."""
    shared = rows.sparkSession.sparkContext.broadcast((own, queries))

    def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        own, queries = shared.value
        for batch in batches:
            if batch.num_rows:
                records = _make_codes(batch, 0)
                yield _to_batch(find_between(own, records, radii[0]))
                homes = records[records["flags"] & IS_HOME > 0]
                yield _to_batch(np.sort(find_everywhere(queries, homes, radii[1]), axis=1), sampled=True)

    return _select_codes(rows).mapInArrow(compare, _PAIRS)


def _meet(new: DataFrame, stored: DataFrame, radius: int) -> DataFrame:
    """Codes of both sides, brought together by cell."""
    first = new.select(F.length("cells")).first()
    cells = first[0] // CELL.itemsize if first else 1
    parts = count_parts((new.count() + stored.count()) * cells * CODE_RECORD.itemsize)

    def compare(records: NDArray[Any]) -> pa.RecordBatch:
        is_new = records["flags"] & IS_NEW > 0
        return _to_batch(find_between(collapse_texts(records[is_new])[0], records[~is_new], radius))

    def make(flags: int) -> Callable[[pa.RecordBatch], NDArray[Any]]:
        return lambda batch: _make_codes(batch, flags)

    ours = shuffle_records(_select_codes(new), make(IS_NEW), _place, parts)
    theirs = shuffle_records(_select_codes(stored), make(0), _place, parts)
    return map_parts(ours.unionByName(theirs), parts, CODE_RECORD, compare, _PAIRS)


def _choose_queries(new: DataFrame) -> Records:
    """RECALL_ROWS new rows, chosen by hash: a record each. The cells play no part, so what they miss shows."""
    chosen = _select_codes(new).orderBy(F.xxhash64("row"), "row").limit(RECALL_ROWS).toArrow()
    records = np.concatenate([_NONE, *(_make_codes(batch, IS_NEW) for batch in chosen.to_batches())])
    return records[records["flags"] & IS_HOME > 0]


def _select_codes(signed: DataFrame, *more: str) -> DataFrame:
    return signed.select(F.xxhash64("row_id").alias("row"), F.xxhash64("text_hash").alias("text"), "cells", "code", *more)


def _make_codes(batch: pa.RecordBatch, flags: int) -> NDArray[Any]:
    records, place = _make_records(batch, flags, CODE_RECORD)
    codes, _ = unpack_cells(batch["code"], np.dtype("<u8"))
    records["code"] = codes.reshape(-1, WORDS)[place]
    return records


def _make_records(batch: pa.RecordBatch, flags: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """One record for each cell of each row, and (k,) the place of its row in the batch."""
    cells, starts = unpack_cells(batch["cells"], CELL)
    place = np.repeat(np.arange(batch.num_rows), np.diff(starts))
    records = np.empty(len(cells), dtype)
    records["cell"], records["flags"] = cells, flags
    records["flags"][starts[:-1]] |= IS_HOME
    records["text"], records["row"] = batch["text"].to_numpy()[place], batch["row"].to_numpy()[place]
    return records, place


def _to_batch(pairs: Pairs, sampled: bool = False) -> pa.RecordBatch:
    flags = [pa.array(np.full(len(pairs), flag)) for flag in (False, sampled)]
    columns = [pa.array(pairs[:, 0]), pa.array(pairs[:, 1]), *flags]
    return pa.RecordBatch.from_arrays(columns, ["a", "b", "identical", "sampled"])


def _place(records: NDArray[Any]) -> NDArray[np.uint64]:
    cells: NDArray[np.uint64] = records["cell"].astype(np.uint64)
    return cells
