"""Deduplication of a slice's personas, within itself and against the hub: word sets, then embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from persona_hub.core.survivors import NOT_YET_PUBLISHED, Pair, Rank, Removal, add_copies, choose_survivors
from persona_hub.errors import LakeError
from persona_hub.settings import DedupSettings
from persona_hub.spark.job import Job
from persona_hub.spark.vectors import find_cosine_pairs
from persona_hub.spark.words import find_word_pairs
from persona_hub.tables.silver import REMOVALS

STEPS = ("dedup_words", "dedup_embeddings")
METHODS = ("minhash 128, verified by exact jaccard", "cosine, brute force")
MAX_PAIRS = 2_000_000  # of one slice, on the driver: about 1 GB


def find_removals(new: DataFrame, stored: DataFrame, settings: DedupSettings) -> list[Removal]:
    """Compares a slice with itself and with stored rows.

    Args:
        new, stored: columns row_id, text, text_hash, publication (null: not published yet) and vector.

    Raises:
        LakeError: more than MAX_PAIRS similar pairs.
    """
    # One text in very many rows would make the square of that many pairs: only its best row is compared.
    order = F.struct(F.coalesce("publication", F.lit(NOT_YET_PUBLISHED)), "row_id")
    first = F.min_by("row_id", order).over(Window.partitionBy("text_hash"))
    marked = new.withColumn("first", first).localCheckpoint()
    copies = dict(tuple(row) for row in marked.where("row_id <> first").select("row_id", "first").collect())
    return add_copies(_compare(marked.where("row_id = first"), stored, settings), copies)


def _compare(new: DataFrame, stored: DataFrame, settings: DedupSettings) -> list[Removal]:
    found = (
        find_word_pairs(new, stored, settings.words).withColumn("step", F.lit(0)),
        find_cosine_pairs(new, stored, settings.cosine).withColumn("step", F.lit(1)),
    )
    pairs = found[0].unionByName(found[1]).limit(MAX_PAIRS + 1).localCheckpoint()
    rows = pairs.select("a", "b", "step", "similarity").collect()
    if len(rows) > MAX_PAIRS:
        raise LakeError(
            f"More than {MAX_PAIRS} similar pairs in one slice",
            cure="make slices smaller (crawl.files_per_slice), or look for one text in very many rows",
        )
    if not rows:
        return []
    in_pair = pairs.select(F.explode(F.array("a", "b")).alias("row_id")).dropDuplicates(["row_id"])
    ranks = {
        side: {
            row["row_id"]: Rank(row["publication"] or NOT_YET_PUBLISHED, row["text_hash"], row["row_id"])
            for row in frame.join(in_pair, on="row_id", how="left_semi").select("row_id", "publication", "text_hash").collect()
        }
        for side, frame in (("new", new), ("stored", stored))
    }
    return choose_survivors(
        ranks["stored"] | ranks["new"], (Pair(*row) for row in rows), frozenset(ranks["stored"])
    )


def make_removal_rows(
    job: Job, removals: Sequence[Removal], new: DataFrame, stages: Sequence[str] = STEPS
) -> DataFrame:
    """Rows of silver.removals: who is gone, by which step, for whom, how similar."""
    thresholds = (job.settings.dedup.words, job.settings.dedup.cosine)
    rows = [
        (job.slice, stages[one.step], "", one.row_id, STEPS[one.step].replace("dedup_", "similar_"), "",
         one.survivor_id, one.similarity, thresholds[one.step], METHODS[one.step], job.run_id)
        for one in removals
    ]  # fmt: skip
    columns = [column for column in REMOVALS.columns if column.name != "text"]
    schema = ", ".join(f"{column.name} {column.type}" for column in columns)
    return job.spark.createDataFrame(rows, schema).join(new.select("row_id", "text"), on="row_id", how="left")
