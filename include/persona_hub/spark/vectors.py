"""Embeddings as a stage: each distinct text once per model, stored, and compared by cosine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import LakeError
from persona_hub.llm.embedder import embed_texts
from persona_hub.settings import EmbeddingSettings
from persona_hub.spark.job import Job
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.tables.silver import VECTORS

ROWS_PER_TASK = 5_000  # a task loads the model: seconds, so not one for a handful of texts
CELLS_AT_ONCE = 8_000_000  # cosines that a task holds: 32 MB


def embed_rows(job: Job, rows: DataFrame, published: DataFrame) -> DataFrame:
    """Adds the column `vector` to rows with row_id, text and text_hash, and stores the slice's vectors.

    A text whose vector is known, from whatever slice, is not computed again.

    Args:
        published: the slice's rows of gold.personas; other slices compare themselves with these until the slice is
            published anew, so their vectors stay.
    """
    settings = job.settings.embedding
    stored = read_table(job.spark, job.lake, VECTORS, embedding_model=settings.model)
    known = stored.dropDuplicates(["text_hash"]).select("text_hash", "vector")
    distinct = rows.select("text_hash", "text").dropDuplicates(["text_hash"])
    missing = distinct.join(known, on="text_hash", how="left_anti").localCheckpoint()
    vectors = known
    if count := missing.count():
        vectors = known.unionByName(_embed_texts(missing.coalesce(max(1, count // ROWS_PER_TASK)), settings))
    embedded = rows.join(vectors, on="text_hash", how="inner").localCheckpoint()
    fresh_rows = embedded.select(
        F.lit(job.slice).alias("slice"),
        F.col("row_id").alias("persona_id"),
        "text_hash",
        F.lit(settings.model).alias("embedding_model"),
        "vector",
    )
    identity = ["persona_id", "text_hash"]
    still_read = stored.where(F.col("slice") == job.slice).join(published, on=identity, how="left_semi")
    stored_rows = fresh_rows.unionByName(still_read.join(fresh_rows, on=identity, how="left_anti"))
    replace_rows(stored_rows, job.lake, VECTORS, slice=job.slice, embedding_model=settings.model)
    return embedded


def _embed_texts(texts: DataFrame, settings: EmbeddingSettings) -> DataFrame:
    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                vectors = embed_texts(batch["text"].to_pylist(), settings)
                yield pa.RecordBatch.from_arrays([batch["text_hash"], _to_list_array(vectors)], ["text_hash", "vector"])

    return texts.mapInArrow(embed, "text_hash STRING, vector ARRAY<FLOAT>")


def read_vectors(job: Job, personas: DataFrame) -> DataFrame:
    """Rows of gold.personas or silver.persona_survivors as dedup takes them: row_id, text, text_hash, publication, vector.

    Raises:
        LakeError: a persona has no vector of the model that is set; the hub was made with another one.
    """
    model = job.settings.embedding.model
    vectors = read_table(job.spark, job.lake, VECTORS, embedding_model=model).select("persona_id", "text_hash", "vector")
    rows = personas.join(vectors, on=["persona_id", "text_hash"], how="left").select(
        F.col("persona_id").alias("row_id"), F.col("persona").alias("text"), "text_hash", "publication", "vector"
    )
    if (lacking := rows.where("vector IS NULL").first()) is not None:
        raise LakeError(
            f"{lacking['row_id']} has no vector of the embedding model {model!r}",
            wanted="a hub whose vectors are all of one model",
            cure="set PERSONA_HUB_EMBEDDING__MODEL as it was (ops.publications names it), or start another lake",
        )
    return rows


def find_cosine_pairs(new: DataFrame, stored: DataFrame, threshold: float) -> DataFrame:
    """All pairs of cosine >= threshold with at least one new row, by brute force: exact.

    Args:
        new: row_id, vector; one slice, so it fits on the driver and in a broadcast.
        stored: row_id, vector; read as a stream of blocks, never collected.

    Returns:
        Columns a, b, similarity; each pair once.
    """
    collected = new.select("row_id", "vector").toArrow()
    ids = collected["row_id"].to_pylist()
    if not ids:
        return new.sparkSession.createDataFrame([], "a STRING, b STRING, similarity DOUBLE")
    matrix = new.sparkSession.sparkContext.broadcast((ids, _to_matrix(collected["vector"].combine_chunks())))

    def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        new_ids, new_vectors = np.asarray(matrix.value[0], object), matrix.value[1]
        block_rows = max(1, CELLS_AT_ONCE // len(new_ids))
        for batch in batches:
            for start in range(0, batch.num_rows, block_rows):
                block = batch.slice(start, block_rows)
                cosines = _to_matrix(block["vector"]) @ new_vectors.T
                # In single precision the threshold itself is rounded: judged in double, as it is stored and checked.
                left, right = np.nonzero(cosines >= threshold - 1e-6)
                exact = np.minimum(cosines[left, right].astype(np.float64), 1.0)
                a, b = np.asarray(block["row_id"].to_pylist(), object)[left], new_ids[right]
                is_new = block["is_new"].to_numpy(zero_copy_only=False)[left]
                found = (exact >= threshold) & (a != b) & (~is_new | (a < b))
                yield pa.RecordBatch.from_arrays(
                    [pa.array(a[found], pa.string()), pa.array(b[found], pa.string()), pa.array(exact[found], pa.float64())],
                    ["a", "b", "similarity"],
                )

    both = [side.select("row_id", "vector", F.lit(flag).alias("is_new")) for side, flag in ((new, True), (stored, False))]
    return both[0].unionByName(both[1]).mapInArrow(compare, "a STRING, b STRING, similarity DOUBLE")


def _to_matrix(vectors: pa.Array) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.asarray(vectors.flatten(), np.float32).reshape(len(vectors), -1)


def _to_list_array(vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> pa.Array:
    rows, width = vectors.shape
    return pa.ListArray.from_arrays(pa.array(range(0, rows * width + 1, width), pa.int32()), pa.array(vectors.ravel()))
