"""Embeddings as a dedup step: cells and codes find candidate pairs, exact cosine decides, a sample measures the recall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    collapse_texts,
    find_between,
    find_everywhere,
)
from persona_hub.dedup.cell_pairs import find_similar, vector_record
from persona_hub.dedup.cells import assign_cells
from persona_hub.dedup.codes import WORDS, code_radius, make_codes
from persona_hub.dedup.cosine import exact_cosines, unpack_vectors
from persona_hub.spark.blocks import count_parts, map_parts, pack_cells, shuffle_records, unpack_cells
from persona_hub.tables.silver import VECTOR_CELLS

BROADCAST_ROWS = 100_000  # of a slice; above, the hub's codes are shuffled with it instead of read past it: 20 MB
RECALL_ROWS = 300  # of a slice, compared with every other row to see what the cells have missed
SIGMAS = 3.5  # a pair at the threshold lies beyond that many deviations of its code's distance once in 4,300
SAMPLE_SIGMAS = 6.0
_PAIRS = "a BIGINT, b BIGINT, identical BOOLEAN, sampled BOOLEAN"
_CELL = np.dtype("<u4")


@dataclass(frozen=True)
class CellStep:
    """Compares vectors that lie in one cell, or in whose next cells the other lies.

    Attributes:
        stage, rule: names in the funnel.
        threshold: cosine.
        model: embedding model of all vectors.
        centroids: float32 (cells, dimensions); None for one cell that holds all.
        version: of the centroids; 0 where there are none.
        probes: cells in which a row is compared.
    """

    stage: str
    rule: str
    threshold: float
    model: str
    centroids: NDArray[np.float32] | None
    version: int
    probes: int

    table = VECTOR_CELLS

    @property
    def label(self) -> str:
        cells = f"{len(self.centroids)} cells, {self.probes} probes" if self.centroids is not None else "one cell"
        return f"cosine, {cells}, version {self.version}, {self.model}"

    @property
    def identity(self) -> str:
        """What must be the same in a whole hub; cells may be trained anew."""
        return f"cosine {self.threshold:g} of {self.model}"

    @property
    def made_with(self) -> dict[str, Any]:
        """Column values of the signatures that can be compared with ours."""
        return {"embedding_model": self.model, "cells_version": self.version}

    def describe(self) -> dict[str, Any]:
        cells = 1 if self.centroids is None else len(self.centroids)
        about = {"threshold": self.threshold, "model": self.model, "cells": cells, "cells_version": self.version}
        return about | {"probes": min(self.probes, cells), "code_bits": 64 * WORDS, "verified": "exactly"}

    def sign(self, rows: DataFrame) -> DataFrame:
        """Cells and codes of rows with row_id, slice, text_hash and vector.

        Returns:
            What silver.vector_cells has of each, and the vector, by which new rows are compared.
        """
        shared = rows.sparkSession.sparkContext.broadcast(self.centroids)
        first = rows.select(F.length("vector")).first()
        dimensions = first[0] // 2 if first and self.centroids is None else None
        probes = self.probes

        def sign(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if not batch.num_rows:
                    continue
                centroids = shared.value
                vectors = unpack_vectors(batch["vector"], dimensions if centroids is None else centroids.shape[1])
                cells = np.zeros((len(vectors), 1), _CELL)
                if centroids is not None:
                    cells = assign_cells(vectors, centroids, probes).astype(_CELL)
                codes = make_codes(vectors)
                columns = {name: batch[name] for name in ("slice", "row_id", "text_hash")} | {
                    "cells": pack_cells(cells.ravel(), _starts(*cells.shape)),
                    "code": pack_cells(codes.ravel(), _starts(*codes.shape)),
                    "vector": batch["vector"],
                }
                yield pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

        columns = [column for column in VECTOR_CELLS.columns if column.name not in ("corpus", *self.made_with)]
        schema = ", ".join(f"{column.name} {column.type}" for column in columns) + ", vector BINARY"
        return rows.select("slice", "row_id", "text_hash", "vector").mapInArrow(sign, schema)

    def find(
        self, new: DataFrame, stored: DataFrame | None, sample: bool = True
    ) -> tuple[DataFrame | None, DataFrame | None]:
        """Pairs with at least one new row.

        New rows are compared by their vectors, which they bring along; stored ones by their codes.

        Args:
            new, stored: signatures.
            sample: whether a sample of new rows is compared with all rows, so that the recall can be measured.

        Returns:
            Similar pairs of new rows (a, b, identical, similarity), None where `new` brings no vectors; and candidate
            pairs (a, b, identical, sampled), None where there can be none. Kept on the executors.
        """
        similar = self._compare_new(new).localCheckpoint() if "vector" in new.columns else None
        found = []
        if stored is not None:
            found.append(self._read_past(new, stored) if new.count() <= BROADCAST_ROWS else self._meet(new, stored))
        if sample:
            found.append(self._sample(new, stored))
        if not found:
            return similar, None
        return similar, reduce(DataFrame.unionByName, found).dropDuplicates(["a", "b", "sampled"]).localCheckpoint()

    def _compare_new(self, new: DataFrame) -> DataFrame:
        first = new.select("vector").first()
        dtype, threshold = vector_record(len(first["vector"]) // 2 if first else 1), self.threshold
        parts = count_parts(new.count() * self.probes * dtype.itemsize)

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

    def _read_past(self, new: DataFrame, stored: DataFrame) -> DataFrame:
        """Stored codes go by the slice's own, which every task has."""
        radius, table = code_radius(self.threshold, SIGMAS), _select_codes(new).toArrow()
        own = [_make_records(batch, IS_NEW, CODE_RECORD)[0] for batch in table.to_batches()]
        collapsed, _ = collapse_texts(np.concatenate([np.empty(0, CODE_RECORD), *own]))
        shared = new.sparkSession.sparkContext.broadcast(collapsed)

        def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if batch.num_rows:
                    yield _to_batch(find_between(shared.value, _make_records(batch, 0, CODE_RECORD)[0], radius))

        return _select_codes(stored).mapInArrow(compare, _PAIRS)

    def _meet(self, new: DataFrame, stored: DataFrame) -> DataFrame:
        """Codes of both sides, brought together by cell."""
        radius = code_radius(self.threshold, SIGMAS)
        parts = count_parts((new.count() + stored.count()) * self.probes * CODE_RECORD.itemsize)

        def compare(records: NDArray[Any]) -> pa.RecordBatch:
            is_new = records["flags"] & IS_NEW > 0
            own, _ = collapse_texts(records[is_new])
            return _to_batch(find_between(own, records[~is_new], radius))

        ours = shuffle_records(_select_codes(new), lambda b: _make_records(b, IS_NEW, CODE_RECORD)[0], _place, parts)
        theirs = shuffle_records(_select_codes(stored), lambda b: _make_records(b, 0, CODE_RECORD)[0], _place, parts)
        return map_parts(ours.unionByName(theirs), parts, CODE_RECORD, compare, _PAIRS)

    def _sample(self, new: DataFrame, stored: DataFrame | None) -> DataFrame:
        """All pairs of RECALL_ROWS new rows, chosen by hash, with any row, by their codes alone.

        The cells play no part, so what they miss is here, and with a wider radius what the codes miss too.
        """
        chosen = _select_codes(new).orderBy(F.xxhash64("row"), "row").limit(RECALL_ROWS).toArrow().combine_chunks()
        batches = chosen.to_batches()
        queries = _make_records(batches[0], IS_NEW, CODE_RECORD)[0] if batches else np.empty(0, CODE_RECORD)
        shared = new.sparkSession.sparkContext.broadcast(queries[(queries["flags"] & IS_HOME) > 0])
        radius = code_radius(self.threshold, SAMPLE_SIGMAS)

        def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                records, _ = _make_records(batch, 0, CODE_RECORD)
                pairs = find_everywhere(shared.value, records[(records["flags"] & IS_HOME) > 0], radius)
                yield _to_batch(np.sort(pairs, axis=1), sampled=True)

        rows = _select_codes(new) if stored is None else _select_codes(new).unionByName(_select_codes(stored))
        return rows.mapInArrow(compare, _PAIRS)

    def verify(self, pairs: DataFrame) -> DataFrame:
        """The similar ones of pairs with vector_a and vector_b: columns a, b, identical, sampled, similarity."""
        threshold = self.threshold

        def verify(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                if not batch.num_rows:
                    continue
                left = unpack_vectors(batch["vector_a"], None)
                cosines = exact_cosines(left, unpack_vectors(batch["vector_b"], left.shape[1]))
                same = np.asarray(pa.compute.equal(batch["text_hash_a"], batch["text_hash_b"]))
                cosines = np.where(same, 1.0, cosines)
                columns = [batch[name] for name in ("a", "b", "identical", "sampled")] + [pa.array(cosines)]
                names = ["a", "b", "identical", "sampled", "similarity"]
                yield pa.RecordBatch.from_arrays(columns, names).filter(pa.array(cosines >= threshold))

        return pairs.mapInArrow(verify, _PAIRS + ", similarity DOUBLE")


def _select_codes(signed: DataFrame, *more: str) -> DataFrame:
    return signed.select(F.xxhash64("row_id").alias("row"), F.xxhash64("text_hash").alias("text"), "cells", "code", *more)


def _make_records(batch: pa.RecordBatch, flags: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """One record for each cell of each row, and (k,) the place of its row in the batch."""
    cells, starts = unpack_cells(batch["cells"], _CELL)
    place = np.repeat(np.arange(batch.num_rows), np.diff(starts))
    records = np.empty(len(cells), dtype)
    records["cell"], records["flags"] = cells, flags
    records["flags"][starts[:-1]] |= IS_HOME
    records["text"], records["row"] = batch["text"].to_numpy()[place], batch["row"].to_numpy()[place]
    if dtype == CODE_RECORD:
        codes, _ = unpack_cells(batch["code"], np.dtype("<u8"))
        records["code"] = codes.reshape(-1, WORDS)[place]
    return records, place


def _to_batch(pairs: Pairs, sampled: bool = False) -> pa.RecordBatch:
    flags = [pa.array(np.full(len(pairs), flag)) for flag in (False, sampled)]
    columns = [pa.array(pairs[:, 0]), pa.array(pairs[:, 1]), *flags]
    return pa.RecordBatch.from_arrays(columns, ["a", "b", "identical", "sampled"])


def _starts(rows: int, width: int) -> NDArray[np.int64]:
    return np.arange(rows + 1, dtype=np.int64) * width


def _place(records: NDArray[Any]) -> NDArray[np.uint64]:
    cells: NDArray[np.uint64] = records["cell"].astype(np.uint64)
    return cells
