"""Drivers that lay out a large ledger, and that start a stage on it.

`start_driver.py make SLICES ROWS` writes as many slices' answers, one append each.
`start_driver.py ask RESULT ROWS own` starts a stage of the first slice on all of its keys; with `others` instead, on as
many keys that only other slices have had answered. The settings are in the environment.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.settings import load_settings
from persona_hub.spark.asking import ask_all
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.tables import append_rows
from persona_hub.stages import EXTRACT, get_stage
from persona_hub.tables.silver import COMPLETIONS

ANSWER = "A beekeeper who has counted the hives of a whole valley, and who writes down each of them in a book. " * 3


def name_slice(number: int) -> str:
    return f"S/{number:05d}"


def make_keys(spark: SparkSession, first: int, count: int) -> DataFrame:
    numbers = spark.range(first, first + count, 1, 2)
    return numbers.select(F.sha2(F.col("id").cast("string"), 256).alias("completion_key"))


def make_ledger(spark: SparkSession, lake: str, slices: int, rows: int) -> None:
    plain = {"stage": EXTRACT, "data_type": "", "run_id": "earlier", "prompt_hash": "h", "model": "m", "answered_by": "m"}
    numbers = {"prompt_tokens": 500, "cached_tokens": 0, "completion_tokens": 70, "attempts": 1, "maybe_paid": 0}
    columns = {name: F.lit(value) for name, value in (plain | numbers).items()} | {
        "text": F.concat(F.lit(ANSWER), F.col("completion_key")),
        "finish_reason": F.lit("stop"),
        "latency_s": F.rand(),
        "answered_at": F.current_timestamp(),
        **{name: F.lit(None) for name in ("reasoning_tokens", "money", "error_class", "error")},
    }
    for number in range(slices):
        answers = make_keys(spark, number * rows, rows).withColumns(columns | {"slice": F.lit(name_slice(number))})
        append_rows(answers, lake, COMPLETIONS)


def start_stage(job: Job, result: Path, rows: int, whose: str) -> None:
    first = 0 if whose == "own" else rows + rows // 2  # halves of two other slices
    questions = make_keys(job.spark, first, rows).select(
        F.monotonically_increasing_id().cast("string").alias("row_id"),
        F.lit(0).cast("bigint").alias("endpoint"),
        "completion_key",
        F.concat(F.lit("x" * 2_000), F.col("completion_key")).alias("request"),
        F.lit("hash").alias("prompt_hash"),
    ).localCheckpoint()
    begun = time.monotonic()
    answered = ask_all(job, get_stage(EXTRACT), questions, Tally()).count()
    result.write_text(json.dumps({"seconds": time.monotonic() - begun, "answered": answered}))


def main(what: str, *arguments: str) -> None:
    settings = load_settings()
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(asctime)s %(message)s")
    spark = SparkSession.builder.appName(f"bench: {what}").getOrCreate()
    if what == "make":
        return make_ledger(spark, settings.lake, *map(int, arguments))
    job = Job("bench", name_slice(0), "run 1", 1, "", settings, spark)
    start_stage(job, Path(arguments[0]), int(arguments[1]), arguments[2])


if __name__ == "__main__":
    main(*sys.argv[1:])
