"""Word sets as a stage: MinHash bands find candidate pairs, exact Jaccard decides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.core.minhash import choose_bands, hash_bands
from persona_hub.core.words import jaccard, word_set


def find_word_pairs(new: DataFrame, stored: DataFrame, threshold: float) -> DataFrame:
    """Pairs of Jaccard >= threshold with at least one new row; at 0.9 all but 1 in 120,000 of them.

    Args:
        new, stored: columns row_id and text.

    Returns:
        Columns a, b, similarity.
    """
    bands, rows = choose_bands(threshold)

    def sign(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            sets = [word_set(text) for text in batch["text"].to_pylist()]
            filled = [i for i, words in enumerate(sets) if words]
            keys = hash_bands([sets[i] for i in filled], bands, rows) + np.arange(bands, dtype=np.uint64)
            repeated = np.repeat(np.asarray(filled, np.int64), bands)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(keys.ravel().view(np.int64)),
                    batch["row_id"].take(pa.array(repeated)),
                    batch["is_new"].take(pa.array(repeated)),
                ],
                ["band_key", "row_id", "is_new"],
            )

    def verify(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            texts = zip(batch["text_a"].to_pylist(), batch["text_b"].to_pylist(), strict=True)
            similarity = np.fromiter((jaccard(word_set(a), word_set(b)) for a, b in texts), np.float64, batch.num_rows)
            found = pa.array(similarity >= threshold)
            columns = [batch["a"], batch["b"], pa.array(similarity)]
            yield pa.RecordBatch.from_arrays([c.filter(found) for c in columns], ["a", "b", "similarity"])

    flag = [new.withColumn("is_new", F.lit(True)), stored.withColumn("is_new", F.lit(False))]
    both = flag[0].select("row_id", "text", "is_new").unionByName(flag[1].select("row_id", "text", "is_new"))
    signed = both.mapInArrow(sign, "band_key BIGINT, row_id STRING, is_new BOOLEAN")
    left, right = signed.alias("l"), signed.where("is_new").alias("r")
    candidates = (
        left.join(right, on="band_key", how="inner")
        .where("l.row_id <> r.row_id AND (NOT l.is_new OR l.row_id < r.row_id)")
        .select(F.col("l.row_id").alias("a"), F.col("r.row_id").alias("b"))
        .dropDuplicates(["a", "b"])
    )
    texts = both.select("row_id", "text")
    paired = candidates.join(
        texts.select(F.col("row_id").alias("a"), F.col("text").alias("text_a")), on="a", how="inner"
    ).join(texts.select(F.col("row_id").alias("b"), F.col("text").alias("text_b")), on="b", how="inner")
    return paired.mapInArrow(verify, "a STRING, b STRING, similarity DOUBLE")
