"""Embeddings as a dedup step: cells and codes find candidate pairs, exact cosine decides, a sample measures the recall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.cells import assign_cells
from persona_hub.dedup.codes import BITS, make_codes
from persona_hub.dedup.cosine import exact_cosines, unpack_vectors
from persona_hub.spark.blocks import pack_cells
from persona_hub.spark.cell_search import CELL, compare_new, find_candidates
from persona_hub.tables.silver import VECTOR_CELLS


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
        return about | {"probes": min(self.probes, cells), "code_bits": BITS, "verified": "exactly"}

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
                cells = np.zeros((len(vectors), 1), CELL)
                if centroids is not None:
                    cells = assign_cells(vectors, centroids, probes).astype(CELL)
                codes = make_codes(vectors)
                columns = {name: batch[name] for name in ("slice", "row_id", "text_hash")} | {
                    "cells": pack_cells(cells.ravel(), _count_up(*cells.shape)),
                    "code": pack_cells(codes.ravel(), _count_up(*codes.shape)),
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
        similar = compare_new(new, self.threshold).localCheckpoint() if "vector" in new.columns else None
        candidates = find_candidates(new, stored, self.threshold, sample=sample)
        return similar, None if candidates is None else candidates.localCheckpoint()

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

        return pairs.mapInArrow(verify, "a BIGINT, b BIGINT, identical BOOLEAN, sampled BOOLEAN, similarity DOUBLE")


def _count_up(rows: int, width: int) -> NDArray[np.int64]:
    return np.arange(rows + 1, dtype=np.int64) * width
