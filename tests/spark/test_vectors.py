"""Cosine pairs against brute force; vectors are computed once a text, and stay while somebody compares with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.core.keys import text_hash
from persona_hub.errors import LakeError
from persona_hub.spark.job import Job
from persona_hub.spark.tables import replace_rows
from persona_hub.spark.vectors import embed_rows, find_cosine_pairs, read_vectors
from persona_hub.tables.silver import VECTORS

SCHEMA = "row_id STRING, vector ARRAY<FLOAT>"


def make_vectors(data: Path, count: int, noisy: int) -> np.ndarray:
    """Real personas' vectors, and noisy copies of some at cosines around 0.9."""
    real = np.load(data / "personas" / "personahub_minilm.f16.npy", mmap_mode="r")[:count].astype(np.float32)
    rng = np.random.default_rng(5)
    copies = real[rng.choice(count, noisy)] + rng.normal(0, 0.025, (noisy, real.shape[1])).astype(np.float32)
    vectors = np.vstack([real, copies])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("threshold", [0.9, 0.6])
def test_all_pairs_and_no_other(spark: SparkSession, shared_data: Path, threshold: float) -> None:
    vectors = make_vectors(shared_data, 1_500, 200)
    ids = [f"{place:04}" for place in range(len(vectors))]
    is_new = np.arange(len(vectors)) % 3 > 0
    frames = [
        spark.createDataFrame([(ids[i], vectors[i].tolist()) for i in np.flatnonzero(is_new == side)], SCHEMA)
        for side in (True, False)
    ]
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    assert np.abs(cosines - threshold).min() > 1e-6  # so single precision decides no pair
    left, right = np.nonzero(np.triu(cosines >= threshold, 1))
    expected = {
        (ids[a], ids[b]): cosines[a, b] for a, b in zip(left, right, strict=True) if is_new[a] or is_new[b]
    }
    rows = find_cosine_pairs(*frames, threshold).collect()
    found = {(min(row["a"], row["b"]), max(row["a"], row["b"])): row["similarity"] for row in rows}
    assert len(rows) == len(found)  # no pair twice
    assert len(expected) > 60
    assert found == pytest.approx(expected, abs=1e-5)


def test_no_rows_are_no_pairs(spark: SparkSession) -> None:
    none, some = spark.createDataFrame([], SCHEMA), spark.createDataFrame([("a", [1.0, 0.0]), ("b", [1.0, 0.0])], SCHEMA)
    assert find_cosine_pairs(none, some, 0.9).collect() == []
    assert [(row["a"], row["b"]) for row in find_cosine_pairs(some, none, 0.9).collect()] in ([("a", "b")], [("b", "a")])


def make_rows(job: Job, **texts: str) -> DataFrame:
    rows = [(row_id, text, text_hash(text), None) for row_id, text in texts.items()]
    return job.spark.createDataFrame(rows, "row_id STRING, text STRING, text_hash STRING, publication BIGINT")


def as_personas(rows: DataFrame) -> DataFrame:
    return rows.withColumnsRenamed({"row_id": "persona_id", "text": "persona"})


def read_stored(job: Job) -> list[tuple[Any, ...]]:
    rows = DeltaTable(VECTORS.path(job.lake)).to_pyarrow_table().to_pylist()
    return sorted((row["slice"], row["persona_id"], row["text_hash"], row["embedding_model"]) for row in rows)


def read_vector(job: Job, row_id: str) -> list[float]:
    rows = DeltaTable(VECTORS.path(job.lake)).to_pyarrow_table().to_pylist()
    return next(row["vector"] for row in rows if row["persona_id"] == row_id)


def know_vectors(job: Job, *texts: str) -> None:
    """Enters a vector for each text, [1, place], under another slice: then no model is loaded for it."""
    rows = [
        ("S/00099", f"known {place}", text_hash(text), job.settings.embedding.model, [1.0, float(place)])
        for place, text in enumerate(texts)
    ]
    replace_rows(job.spark.createDataFrame(rows, VECTORS.schema), job.lake, VECTORS, slice="S/00099")


def test_a_known_text_is_not_computed_again(make_job: Callable[..., Job]) -> None:
    job, baker = make_job("S/00001"), "A baker"
    nobody = job.spark.createDataFrame([], "persona_id STRING, text_hash STRING")
    model = job.settings.embedding.model
    embedded = embed_rows(job, make_rows(job, a=baker, b=baker, c="A nurse"), nobody)
    assert sorted((row["row_id"], len(row["vector"])) for row in embedded.collect()) == [("a", 384), ("b", 384), ("c", 384)]
    assert read_vector(job, "a") == read_vector(job, "b") != read_vector(job, "c")

    # Whoever computed it again would not find a vector of ones.
    path = VECTORS.path(job.lake)
    job.spark.read.format("delta").load(path).withColumn("vector", F.array(*[F.lit(1.0).cast("FLOAT")] * 384)).write.format(
        "delta"
    ).mode("overwrite").save(path)
    other = make_job("S/00002")
    embed_rows(other, make_rows(other, d=baker, e="A sailor"), nobody)
    assert read_vector(other, "d") == [1.0] * 384 != read_vector(other, "e")
    assert read_stored(job) == [
        ("S/00001", "a", text_hash(baker), model),
        ("S/00001", "b", text_hash(baker), model),
        ("S/00001", "c", text_hash("A nurse"), model),
        ("S/00002", "d", text_hash(baker), model),
        ("S/00002", "e", text_hash("A sailor"), model),
    ]


def test_a_published_text_keeps_its_vector_while_its_slice_is_made_anew(make_job: Callable[..., Job]) -> None:
    job = make_job("S/00001")
    nobody = job.spark.createDataFrame([], "persona_id STRING, text_hash STRING")
    know_vectors(job, "A baker", "A nurse", "A sailor", "A baker of bread", "A judge")
    first = make_rows(job, a="A baker", b="A nurse", c="A sailor")
    embed_rows(job, first, nobody)
    published = as_personas(first.where("row_id < 'c'"))
    # The slice again: a says something else now, b is gone, c was never published. Other slices still see a and b.
    embed_rows(job, make_rows(job, a="A baker of bread", d="A judge"), published)
    expected = [("a", "A baker"), ("a", "A baker of bread"), ("b", "A nurse"), ("d", "A judge")]
    stored = [row[1:3] for row in read_stored(job) if row[0] == job.slice]
    assert stored == sorted((row_id, text_hash(text)) for row_id, text in expected)
    vectors = {row["text"]: row["vector"] for row in read_vectors(job, published).collect()}
    assert vectors == {"A baker": [1.0, 0.0], "A nurse": [1.0, 1.0]}


def test_a_hub_of_another_model_says_what_to_do(make_job: Callable[..., Job]) -> None:
    job = make_job("S/00001", embedding__model="another-model")
    with pytest.raises(LakeError) as raised:
        read_vectors(job, as_personas(make_rows(job, a="A baker")))
    assert str(raised.value).startswith("a has no vector of the embedding model 'another-model'. Wanted: a hub")
    assert "set PERSONA_HUB_EMBEDDING__MODEL as it was" in str(raised.value)
