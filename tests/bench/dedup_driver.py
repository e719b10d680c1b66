"""A driver that does one thing with a corpus: `dedup_driver.py RESULT PLAN`, the plan as JSON, one line of JSON as result.

    compare   deduplicates the slice `new`, against the slice `stored` where one is named: timed, Delta in and Delta out
    pairs     compare once more, not timed, which also writes the similar pairs that it found on its way
    publish   what compare has kept becomes the hub that a later compare is given as `stored`
    embed     stores the slices' vectors as if they had been computed

Other keys of the plan: engine, words or vectors; table, the corpus; home, of the lake. Spark is started before the
clock; what a session costs is what the whole process takes beside `seconds`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.settings import Settings, load_settings
from persona_hub.spark import decision, wide_decision
from persona_hub.spark.dedup import deduplicate, make_cell_step, make_word_step, prepare_steps
from persona_hub.spark.outcome import Step
from persona_hub.spark.signatures import Corpus
from persona_hub.spark.survivors import choose_survivors
from persona_hub.spark.tables import append_rows
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.silver import VECTORS

RUN = "bench"


def run_ours(spark: SparkSession, lake: str, settings: Settings, plan: dict[str, Any]) -> dict[str, Any]:
    """THE CALL that the benches time: the engine as `deduplicate_personas` uses it, with one of its two steps."""
    corpus, steps = open_corpus(spark, lake, settings, plan)
    new, stored = read_rows(spark, plan)
    begun = time.monotonic()
    steps = prepare_steps(corpus, steps, new, settings, RUN, [plan["new"]])
    prepared = time.monotonic()
    outcome = deduplicate(corpus, new, stored, steps, [plan["new"]])
    outcome.removals.write.format("delta").mode("append").save(plan["removals"])
    ended = time.monotonic()
    parts = {"prepare_s": prepared - begun, "compare_s": ended - prepared, "step_s": outcome.seconds[0]}
    return {"seconds": ended - begun, **parts, "removed": outcome.removed[0], "events": outcome.events[0]}


def find_pairs(spark: SparkSession, lake: str, settings: Settings, plan: dict[str, Any]) -> dict[str, Any]:
    """Runs compare once more, and writes the pairs that its survivors are chosen by: a, b, identical, by the rows' ids."""

    def write_and_choose(rows: DataFrame, groups: DataFrame, edges: DataFrame) -> DataFrame:
        same = groups.select(F.col("representative").alias("a"), F.col("row").alias("b"), F.lit(True).alias("identical"))
        pairs = same.unionByName(edges.select("a", "b", F.lit(False).alias("identical")))
        for side in ("a", "b"):
            ids = rows.select(F.col("row").alias(side), "row_id")
            pairs = pairs.join(ids, on=side, how="inner").drop(side).withColumnRenamed("row_id", side)
        pairs.write.mode("overwrite").parquet(plan["pairs"])
        return choose_survivors(rows, groups, edges)

    decision.PAIRS_HERE = 0  # the pairs shall pass as frames
    wide_decision.choose_survivors = write_and_choose
    return run_ours(spark, lake, settings, plan | {"removals": plan["pairs"] + "-removals"})


def publish(spark: SparkSession, lake: str, settings: Settings, plan: dict[str, Any]) -> dict[str, Any]:
    new, _ = read_rows(spark, plan)
    gone = spark.read.format("delta").load(plan["removals"]).select("row_id")
    kept = new.join(gone, on="row_id", how="left_anti").withColumn("publication", F.lit(1).cast("bigint"))
    kept.write.format("delta").save(plan["hub"])
    return {}


def embed(spark: SparkSession, lake: str, settings: Settings, plan: dict[str, Any]) -> dict[str, Any]:
    rows = spark.read.format("delta").load(plan["table"]).where(F.col("slice") == plan["new"])
    known = {"corpus": F.lit("personas"), "embedding_model": F.lit(settings.embedding.label)}
    append_rows(rows.withColumns(known), lake, VECTORS)
    return {}


def open_corpus(
    spark: SparkSession, lake: str, settings: Settings, plan: dict[str, Any]
) -> tuple[Corpus, Sequence[Step]]:
    corpus = Corpus("personas", PERSONAS, lake, spark)
    return corpus, [make_word_step(settings) if plan["engine"] == "words" else make_cell_step(corpus, settings)]


def read_rows(spark: SparkSession, plan: dict[str, Any]) -> tuple[DataFrame, DataFrame | None]:
    rows = spark.read.format("delta").load(plan["table"]).select("row_id", "slice", "text", "text_hash")
    new = rows.where(F.col("slice") == plan["new"]).withColumn("publication", F.lit(None).cast("bigint"))
    return new, spark.read.format("delta").load(plan["hub"]) if plan["stored"] else None


ACTIONS = {"compare": run_ours, "pairs": find_pairs, "publish": publish, "embed": embed}


def main(result: Path, plan: dict[str, Any]) -> None:
    settings = load_settings()
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(asctime)s %(message)s")
    spark = SparkSession.builder.appName(f"bench of dedup: {plan['action']}").getOrCreate()
    line = json.dumps(ACTIONS[plan["action"]](spark, settings.lake, settings, plan))
    print(line)
    result.write_text(line)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
