"""From candidate pairs to removals over DataFrames, for any number of them; `decision.decide_here` is for few."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import reduce

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.embeddings import read_vectors
from persona_hub.spark.outcome import BROADCAST_IDS, BROADCAST_ROWS, Outcome, Step, tell_recall
from persona_hub.spark.pairs import Found, Pairs
from persona_hub.spark.signatures import Corpus
from persona_hub.spark.survivors import choose_survivors

log = logging.getLogger(__name__)

BROADCAST_VECTORS = 50_000  # 40 MB
_SIMILAR = ("a", "b", "identical", "similarity")


def decide_in_spark(
    corpus: Corpus, new: DataFrame, stored: DataFrame | None, steps: Sequence[Step], found: Sequence[Found],
    seconds: list[float], *, sample: bool,
) -> Outcome:  # fmt: skip
    """Verifies what the steps have found, and chooses who stays. Arguments are as for `decision.decide_here`."""
    spread = [(_spread(corpus, similar), _spread(corpus, candidates)) for similar, candidates in found]
    rows, count = _fetch_rows(new, stored, [pairs for both in spread for pairs in both if pairs is not None])
    pairs, events = [], []
    for place, (step, (similar, candidates)) in enumerate(zip(steps, spread, strict=True)):
        clock = time.monotonic()
        verified = [] if candidates is None else [_verify(corpus, step, candidates, rows, count).localCheckpoint()]
        similar_pairs = [frame.where("NOT sampled") for frame in verified] + ([] if similar is None else [similar])
        every = reduce(DataFrame.unionByName, (frame.select(*_SIMILAR) for frame in similar_pairs))
        pairs.append(every.withColumn("step", F.lit(place)))
        measured = sample and isinstance(step, CellStep)
        events.append(_measure_recall(verified[0].where("sampled"), every) if measured else {})
        seconds[place] += time.monotonic() - clock
        near, recall = every.count(), tell_recall(events[-1])
        log.info("%s: %d similar pairs in %.1f s%s", step.stage, near, seconds[place], recall)
    joined = reduce(DataFrame.unionByName, pairs)
    groups = joined.where("identical").select("step", F.col("b").alias("row"), F.col("a").alias("representative"))
    edges = joined.where("NOT identical").select("step", "a", "b", "similarity")
    removals = choose_survivors(rows.drop("text"), groups, edges).localCheckpoint()
    gone = {row["step"]: row["count"] for row in removals.groupBy("step").count().collect()}
    return Outcome(removals, [gone.get(place, 0) for place in range(len(steps))], seconds, events)


def _spread(corpus: Corpus, pairs: Pairs) -> DataFrame | None:
    return corpus.spark.createDataFrame(pairs) if isinstance(pairs, pa.Table) else pairs


def _fetch_rows(new: DataFrame, stored: DataFrame | None, pairs: Sequence[DataFrame]) -> tuple[DataFrame, int]:
    """The rows that stand in pairs, where they are still there: row, row_id, text, text_hash, publication, is_stored.

    Returns:
        them, and how many they are.
    """
    ids = _list_rows(pairs).localCheckpoint()
    wanted = F.broadcast(ids) if ids.count() <= BROADCAST_IDS else ids
    frames = [(new, False)] + ([(stored, True)] if stored is not None else [])
    found = [
        frame.select(
            F.xxhash64("row_id").alias("row"),
            "row_id",
            "text",
            "text_hash",
            "publication",
            F.lit(is_stored).alias("is_stored"),
        ).join(wanted, on="row", how="inner")
        for frame, is_stored in frames
    ]
    rows = reduce(DataFrame.unionByName, found).localCheckpoint()
    return rows, rows.count()


def _list_rows(pairs: Sequence[DataFrame]) -> DataFrame:
    ends = [frame.select(F.explode(F.array("a", "b")).alias("row")) for frame in pairs]
    return reduce(DataFrame.unionByName, ends).dropDuplicates(["row"])


def _verify(corpus: Corpus, step: Step, pairs: DataFrame, rows: DataFrame, count: int) -> DataFrame:
    """The similar ones of candidate pairs: a, b, identical, sampled, similarity."""
    if isinstance(step, CellStep):
        # Of other rows, which only other steps have paired, no vector is read: of a whole hub they may be millions.
        wanted = rows.select("row", "row_id", "text_hash").join(_list_rows([pairs]), on="row", how="left_semi")
        wanted = wanted.localCheckpoint()
        count = wanted.count()
        wanted = F.broadcast(wanted) if count <= BROADCAST_ROWS else wanted
        content = read_vectors(corpus, wanted, step.model).localCheckpoint(storageLevel=StorageLevel.DISK_ONLY)
        content, name = F.broadcast(content) if count <= BROADCAST_VECTORS else content, "vector"
    else:
        content, name = rows.select("row", "text_hash", "text"), "text"
        content = F.broadcast(content) if count <= BROADCAST_ROWS else content
    sides = [content.select(*(F.col(c).alias(f"{c}_{side}" if c != "row" else side) for c in ("row", "text_hash", name)))
             for side in ("a", "b")]  # fmt: skip
    return step.verify(pairs.join(sides[0], on="a", how="inner").join(sides[1], on="b", how="inner"))


def _measure_recall(sample: DataFrame, similar: DataFrame) -> dict[str, int]:
    """How many similar pairs of a sample that was compared with everything the cells have found too."""
    stands_for = similar.where("identical").select(F.col("b").alias("row"), F.col("a").alias("first"))
    pairs = sample.select("a", "b")
    for side in ("a", "b"):
        other = stands_for.withColumnRenamed("row", side)
        pairs = pairs.join(other, on=side, how="left").withColumn(side, F.coalesce("first", side)).drop("first")
    pairs = pairs.where("a <> b").select(F.least("a", "b").alias("a"), F.greatest("a", "b").alias("b")).distinct()
    found = similar.where("NOT identical").select(
        F.least("a", "b").alias("a"), F.greatest("a", "b").alias("b"), F.lit(1).alias("found")
    )
    row = pairs.join(found.distinct(), on=["a", "b"], how="left").agg(F.count("a"), F.count("found")).first()
    assert row is not None
    return {"recall_pairs": row[0], "recall_found": row[1]}
