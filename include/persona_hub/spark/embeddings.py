"""Vectors of a corpus: computed once per distinct text and model, and stored."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.cosine import pack_vectors
from persona_hub.llm.embedder import embed_texts
from persona_hub.settings import EmbeddingSettings
from persona_hub.spark.signatures import Corpus
from persona_hub.spark.tables import append_rows
from persona_hub.tables.silver import VECTORS

log = logging.getLogger(__name__)

BROADCAST_TEXTS = 1_000_000  # their hashes: 100 MB
ROWS_PER_TASK = 5_000  # a task loads the model: seconds, so not one for a handful of texts


def embed_rows(corpus: Corpus, rows: DataFrame, settings: EmbeddingSettings, slice_keys: Sequence[str]) -> None:
    """Stores a vector for each row that has none yet, in one commit; a text that has one somewhere is not computed again.

    Args:
        rows: row_id, slice, text, text_hash.
        slice_keys: their slices.
    """
    label, clock = settings.label, time.monotonic()
    stored = corpus.read(VECTORS, {"embedding_model": label})
    own = stored.where(F.col("slice").isin(list(slice_keys)))
    if (there := _sum_up(own)) == _sum_up(rows):
        return
    lacking = rows
    if there[0]:
        lacking = rows.join(
            own.select("row_id", "text_hash"), on=["row_id", "text_hash"], how="left_anti"
        ).localCheckpoint()
    if not (count := lacking.count()):
        return
    texts = lacking.select("text_hash", "text").dropDuplicates(["text_hash"]).localCheckpoint()
    hashes = texts.select("text_hash")
    known = stored.join(F.broadcast(hashes) if count <= BROADCAST_TEXTS else hashes, on="text_hash", how="left_semi")
    known = known.select("text_hash", "vector").dropDuplicates(["text_hash"]).localCheckpoint()
    missing = texts.join(known, on="text_hash", how="left_anti").localCheckpoint()
    vectors, to_do = known, missing.count()
    if to_do:
        tasks = max(1, min(to_do // ROWS_PER_TASK, corpus.spark.sparkContext.defaultParallelism))
        vectors = known.unionByName(_embed(missing.repartition(tasks), settings).localCheckpoint())
    made = lacking.join(vectors, on="text_hash", how="inner").withColumns(
        {"corpus": F.lit(corpus.name), "embedding_model": F.lit(label)}
    )
    append_rows(made, corpus.lake, VECTORS)
    log.info("%d vectors by %s, %d of them new texts, in %.1f s", count, label, to_do, time.monotonic() - clock)


def _sum_up(rows: DataFrame) -> tuple[int, Any]:
    """How many rows, and the sum of 64-bit hashes of row_id and text_hash: the same for the same rows, without a join."""
    row = rows.agg(F.count("row_id"), F.sum(F.xxhash64("row_id", "text_hash").cast("DECIMAL(38, 0)"))).first()
    assert row is not None
    return row[0], row[1]


def _embed(texts: DataFrame, settings: EmbeddingSettings) -> DataFrame:
    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                vectors = pack_vectors(embed_texts(batch["text"].to_pylist(), settings))
                yield pa.RecordBatch.from_arrays([batch["text_hash"], vectors], ["text_hash", "vector"])

    return texts.mapInArrow(embed, "text_hash STRING, vector BINARY")


def read_vectors(corpus: Corpus, rows: DataFrame, label: str) -> DataFrame:
    """Columns row, text_hash and vector of rows with row, row_id and text_hash; one each. Give few rows as a broadcast."""
    stored = corpus.read(VECTORS, {"embedding_model": label}).select("row_id", "text_hash", "vector")
    wanted = rows.select("row", "row_id", "text_hash")
    return stored.join(wanted, on=["row_id", "text_hash"], how="inner").select("row", "text_hash", "vector")
