"""Training cells and moving a whole corpus into them, so that whoever is killed leaves the old ones in force."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from persona_hub.dedup.cell_blocks import read_cells
from persona_hub.dedup.cells import count_cells
from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.references import CELL_ROWS, CENTROIDS, ONE_CELL_ROWS, learn_centroids, write_reference
from persona_hub.spark.signatures import Corpus, add_signatures, number_rows, trim_blocks
from persona_hub.spark.tables import delete_rows
from persona_hub.tables.silver import VECTOR_CELLS, VECTORS

log = logging.getLogger(__name__)

LONGER = 4  # times as many cells would be made now
UNEVEN = 20  # times the mean


def train_cells(corpus: Corpus, step: CellStep, run_id: str, without: Sequence[str] = ()) -> CellStep:
    """New centroids, every stored vector in its new cell, then the switch.

    In this order: cells of the new version beside the old, the centroids (from now on they count), away with all
    versions before the last. The caller holds the lease of the corpus' table, so nobody publishes meanwhile; a slice
    that was compared by the old version is signed anew when it is published.

    Args:
        without: slices whose cells the caller stores.
    """
    centroids, about = learn_centroids(corpus, step.model)
    trained = replace(step, centroids=centroids, version=step.version + 1)
    vectors = corpus.read(VECTORS, {"embedding_model": step.model}).where(~F.col("slice").isin(list(without)))
    # A try that was killed may have left cells of this version, made around other centroids.
    delete_rows(corpus.spark, corpus.lake, VECTOR_CELLS, _cells_of(corpus, step, "=", trained.version))
    signed = trained.sign(number_rows(vectors))  # none of this version is there
    add_signatures(corpus, trained, trim_blocks(trained, signed, lambda rows, _: np.ones(len(rows), np.bool_)))
    payload = centroids.astype("<f4").tobytes()
    write_reference(corpus, CENTROIDS, step.model, trained.version, payload, about, run_id)
    delete_rows(corpus.spark, corpus.lake, VECTOR_CELLS, _cells_of(corpus, step, "<", step.version))
    return trained


def measure_cells(corpus: Corpus, step: CellStep) -> dict[str, float]:
    """How even the cells are: rows, the largest one's share of an average one, and rows now for each when trained."""
    homes = (
        corpus.read(VECTOR_CELLS, step.made_with).select("block").mapInArrow(_count_homes, "home BIGINT, count BIGINT")
    )
    homes = homes.groupBy("home").agg(F.sum("count").alias("count"))
    row = homes.agg(F.sum("count"), F.max("count"), F.count("count")).first()
    rows, largest, cells = (int(value or 0) for value in (row or (0, 0, 0)))
    return {"rows": rows, "cells": cells, "mean": rows / max(1, cells), "largest": largest}


def _count_homes(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for cell in (cell for batch in batches for cell in batch["block"]):
        homes, counts = np.unique(read_cells(cell.as_buffer())["cells"][:, 0], return_counts=True)
        yield pa.RecordBatch.from_arrays([pa.array(homes.astype(np.int64)), pa.array(counts)], ["home", "count"])


def is_due(cells: dict[str, float], step: CellStep) -> bool:
    """Whether cells have become so long that comparing costs several times what it did, or one of them very long."""
    if step.centroids is None:
        return cells["rows"] > ONE_CELL_ROWS
    few = count_cells(int(cells["rows"]), CELL_ROWS) > LONGER * len(step.centroids)
    return few or cells["largest"] > UNEVEN * max(CELL_ROWS, cells["mean"])


def _cells_of(corpus: Corpus, step: CellStep, compared: str, version: int) -> str:
    return f"corpus = '{corpus.name}' AND embedding_model = '{step.model}' AND cells_version {compared} {version}"
