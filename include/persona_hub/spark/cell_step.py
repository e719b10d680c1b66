"""Embeddings as a dedup step: cells and codes find candidate pairs, exact cosine decides, a sample measures the recall."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.cell_blocks import keep_cells, pack_cells, read_cells
from persona_hub.dedup.cells import assign_cells
from persona_hub.dedup.codes import BITS, make_codes
from persona_hub.dedup.cosine import exact_cosines, read_halves, unpack_vectors, widen
from persona_hub.spark import cell_search
from persona_hub.spark.blocks import SIGNED, Numbers, Size, make_blocks, map_batches
from persona_hub.spark.pairs import VERIFIED, Found
from persona_hub.spark.signatures import Signed
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
        """Blocks of cells and codes of numbered rows (`signatures.number_rows`) with their vector: slice, rows, block.

        And a column `vectors` beside them, half floats of the same rows: new rows are compared by those.
        """
        shared = rows.sparkSession.sparkContext.broadcast(self.centroids)
        first = rows.select(F.length("vector")).first()
        dimensions, probes = first[0] // 2 if first else None, self.probes

        def sign(batch: pa.RecordBatch) -> pa.RecordBatch:
            return make_blocks(batch, lambda part: _sign(part, shared.value, probes, dimensions))

        return rows.select("slice", "row", "text_number", "vector").mapInArrow(
            map_batches(sign), f"{SIGNED}, vectors BINARY"
        )

    @staticmethod
    def read(block: pa.Buffer) -> tuple[Numbers, Numbers]:
        """Numbers of a block's rows and of their texts."""
        rows = read_cells(block)
        return rows["row"], rows["text"]

    keep = staticmethod(keep_cells)

    def find(self, new: Signed, size: Size, stored: DataFrame | None) -> Found:
        """Pairs with at least one new row.

        New rows are compared with one another by their vectors, where they bring them along; with stored ones by codes.
        A sample of rows that bring their vectors is compared with all rows, so that the recall can be measured.

        Args:
            stored: blocks of signatures.
            size: of `new`.

        Returns:
            Similar pairs of new rows, None where they were compared before; and candidate pairs.
        """
        if not size.rows:
            return None, None
        if size.rows <= cell_search.ROWS_HERE:
            return cell_search.find_here(new, stored, self.threshold)
        similar = None if new.vectors is None else cell_search.compare_new(new.vectors, size, self.threshold)
        candidates = cell_search.find_candidates(new, size, stored, self.threshold)
        return _keep(similar), _keep(candidates)

    def verify(self, pairs: DataFrame) -> DataFrame:
        """The similar ones of pairs with vector_a and vector_b: columns a, b, identical, sampled, similarity."""
        verify = partial(_verify, threshold=self.threshold)  # not the step: its centroids are megabytes
        return pairs.mapInArrow(map_batches(verify), VERIFIED)

    def verify_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """`verify` of one batch, on the driver."""
        return _verify(batch, self.threshold)


def _sign(
    batch: pa.RecordBatch, centroids: NDArray[np.float32] | None, probes: int, dimensions: int | None
) -> dict[str, bytes]:
    halves = read_halves(batch["vector"], dimensions if centroids is None else centroids.shape[1])
    vectors = widen(halves)
    cells = np.zeros((len(vectors), 1), np.uint32)
    if centroids is not None:
        cells = assign_cells(vectors, centroids, probes).astype(np.uint32)
    rows, texts = batch["row"].to_numpy(), batch["text_number"].to_numpy()
    block = pack_cells(rows, texts, cells, make_codes(vectors), halves.shape[1])
    return {"block": block, "vectors": halves.tobytes()}


def _keep(pairs: DataFrame | None) -> DataFrame | None:
    return None if pairs is None else pairs.localCheckpoint()


def _verify(batch: pa.RecordBatch, threshold: float) -> pa.RecordBatch:
    left = unpack_vectors(batch["vector_a"], None)
    cosines = exact_cosines(left, unpack_vectors(batch["vector_b"], left.shape[1]))
    same = np.asarray(pa.compute.equal(batch["text_hash_a"], batch["text_hash_b"]))
    cosines = np.where(same, 1.0, cosines)
    names = ["a", "b", "identical", "sampled"]
    columns = [*(batch[name] for name in names), pa.array(cosines)]
    return pa.RecordBatch.from_arrays(columns, [*names, "similarity"]).filter(pa.array(cosines >= threshold))
