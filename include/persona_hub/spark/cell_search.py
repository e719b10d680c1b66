"""Pairs of vectors over DataFrames: new rows among themselves by their vectors, with stored ones by codes, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from persona_hub.dedup.cell_blocks import (
    choose_sample,
    read_widths,
    take_first,
    to_code_records,
    to_vector_records,
)
from persona_hub.dedup.cell_candidates import (
    CODE_RECORD,
    IS_HOME,
    IS_NEW,
    Records,
    collapse_texts,
    find_between,
    find_everywhere,
)
from persona_hub.dedup.cell_pairs import find_similar, vector_record
from persona_hub.dedup.codes import code_radius
from persona_hub.spark.blocks import (
    Size,
    collect_blocks,
    collect_records,
    count_parts,
    list_buffers,
    map_parts,
    measure_blocks,
    shuffle_records,
)
from persona_hub.spark.pairs import CANDIDATES, SIMILAR, Found, to_candidates
from persona_hub.spark.signatures import Signed

ROWS_HERE = 20_000  # of a slice, as that of one crawl file: their vectors and what is made of them take 100 MB
BROADCAST_ROWS = 100_000  # of a slice; above, the hub's codes are shuffled with it instead of read past it: 20 MB
RECALL_ROWS = 300  # of a slice, compared with every other row to see what the cells have missed
SIGMAS = 3.5  # a pair at the threshold lies beyond that many deviations of its code's distance once in 4,300
SAMPLE_SIGMAS = 6.0
_NONE = np.empty(0, CODE_RECORD)


def compare_new(vectors: DataFrame, size: Size, threshold: float) -> DataFrame:
    """Similar pairs of new rows, exact but for what the cells miss.

    Args:
        vectors: blocks of signatures, and vectors.
        size: of the blocks.

    Returns:
        Columns a, b (representatives; the lower first), identical, similarity.
    """
    cells, dimensions = read_widths(size.header)
    dtype = vector_record(dimensions)
    parts = count_parts(size.rows * cells * dtype.itemsize)
    blocks = shuffle_records(vectors, to_vector_records, _place, parts, ("block", "vectors"))
    found = map_parts(blocks, parts, dtype, partial(_compare, threshold=threshold), SIMILAR)
    return found.dropDuplicates(["a", "b"])


def find_here(new: Signed, stored: DataFrame | None, threshold: float) -> Found:
    """`compare_new` and `find_candidates` for few new rows, on the driver; one job goes past the stored codes."""
    blocks, similar = collect_blocks(new.blocks), None
    if new.vectors is not None:
        read = new.vectors.select("block", "vectors").toArrow()
        records = [*map(to_vector_records, list_buffers(read["block"]), list_buffers(read["vectors"]))]
        similar = _compare(np.concatenate(records), threshold)
    radii = code_radius(threshold, SIGMAS), code_radius(threshold, SAMPLE_SIGMAS)
    own = _join(blocks)
    homes = own[own["flags"] & IS_HOME > 0]
    queries = _NONE if new.vectors is None else take_first(homes, RECALL_ROWS)
    found = pa.Table.from_batches([_measure(queries, homes, radii[1])])
    if stored is not None:
        read = _read_past(stored, collapse_texts(own)[0], queries, radii).toArrow()
        found = pa.concat_tables([found, read.cast(found.schema)])
    return None if similar is None else pa.table(similar), found


def _compare(records: NDArray[Any], threshold: float) -> pa.RecordBatch:
    found = find_similar(records, threshold)
    pairs = np.concatenate([found.identical, found.pairs])
    values = np.concatenate([np.ones(len(found.identical)), found.cosines])
    same = np.arange(len(pairs)) < len(found.identical)
    columns = [pa.array(pairs[:, 0]), pa.array(pairs[:, 1]), pa.array(same), pa.array(values)]
    return pa.RecordBatch.from_arrays(columns, ["a", "b", "identical", "similarity"])


def find_candidates(new: Signed, size: Size, stored: DataFrame | None, threshold: float) -> DataFrame | None:
    """Pairs of a new and a stored row whose codes are near, in their cells; and of a sample of new rows with all rows.

    Returns:
        Columns a, b, identical (none is), sampled; None where nothing is to be compared.
    """
    queries = _NONE if new.vectors is None else _choose_queries(new.blocks, size.rows)
    radii = code_radius(threshold, SIGMAS), code_radius(threshold, SAMPLE_SIGMAS)
    found = [_read_past(new.blocks, _NONE, queries, radii)] if len(queries) else []
    if stored is not None and size.rows <= BROADCAST_ROWS:
        found.append(_read_past(stored, collapse_texts(_join(collect_blocks(new.blocks)))[0], queries, radii))
    elif stored is not None:
        found.append(_meet(new.blocks, size, stored, radii[0]))
        found += [_read_past(stored, _NONE, queries, radii)] if len(queries) else []
    return reduce(DataFrame.unionByName, found).dropDuplicates(["a", "b", "sampled"]) if found else None


def _join(blocks: list[pa.Buffer]) -> Records:
    return np.concatenate([_NONE, *(to_code_records(block, is_new=True) for block in blocks)])


def _measure(queries: Records, homes: Records, radius: int) -> pa.RecordBatch:
    return to_candidates(np.unique(np.sort(find_everywhere(queries, homes, radius), axis=1), axis=0), sampled=True)


def _read_past(signed: DataFrame, own: Records, queries: Records, radii: tuple[int, int]) -> DataFrame:
    """Codes go by the slice's own, and by those of the sample, which every task has."""
    shared = signed.sparkSession.sparkContext.broadcast((own, queries))

    def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        own, queries = shared.value
        for batch in batches:
            for cell in batch["block"]:
                records = to_code_records(cell.as_buffer(), is_new=False)
                yield to_candidates(find_between(own, records, radii[0]))
                yield _measure(queries, records[records["flags"] & IS_HOME > 0], radii[1])

    return signed.select("block").mapInArrow(compare, CANDIDATES)


def _meet(new: DataFrame, size: Size, stored: DataFrame, radius: int) -> DataFrame:
    """Codes of both sides, brought together by cell."""
    cells, _ = read_widths(size.header)
    parts = count_parts((size.rows + measure_blocks(stored).rows) * cells * CODE_RECORD.itemsize)

    def compare(records: NDArray[Any]) -> pa.RecordBatch:
        is_new = records["flags"] & IS_NEW > 0
        return to_candidates(find_between(collapse_texts(records[is_new])[0], records[~is_new], radius))

    ours = shuffle_records(new, partial(to_code_records, is_new=True), _place, parts)
    theirs = shuffle_records(stored, partial(to_code_records, is_new=False), _place, parts)
    return map_parts(ours.unionByName(theirs), parts, CODE_RECORD, compare, CANDIDATES)


def _choose_queries(new: DataFrame, rows: int) -> Records:
    """RECALL_ROWS new rows, chosen by number: a record each. The cells play no part, so what they miss shows."""

    def choose(block: pa.Buffer) -> Records:
        return choose_sample(to_code_records(block, is_new=True), rows, RECALL_ROWS)

    return take_first(collect_records(new, choose, CODE_RECORD), RECALL_ROWS)


def _place(records: NDArray[Any]) -> NDArray[np.uint64]:
    cells: NDArray[np.uint64] = records["cell"].astype(np.uint64)
    return cells
