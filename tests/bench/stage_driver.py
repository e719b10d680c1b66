"""A driver that brings the answers of `count` questions into the ledger and says how long that took.

`stage_driver.py RESULT COUNT`, the settings in the environment. Starting Spark and laying out the questions, which a
stage's earlier steps do, is told apart.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ask_worker import make_requests
from pyspark.sql import SparkSession

from persona_hub.settings import load_settings
from persona_hub.spark.asking import ask_all
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.tables import read_table
from persona_hub.stages import EXTRACT, get_stage
from persona_hub.tables.silver import COMPLETIONS

SLICE = "S/00001"
SCHEMA = "row_id STRING, endpoint BIGINT, completion_key STRING, request STRING"


def make_rows(count: int) -> Iterator[tuple[str, int, str, str]]:
    for number, request in enumerate(make_requests(0, count)):
        yield f"row {number}", 0, request.key, request.to_json()


def main(result: Path, count: int) -> None:
    settings = load_settings()
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(asctime)s %(message)s")
    logging.getLogger("httpx2").setLevel("WARNING")
    spark = SparkSession.builder.appName("bench of a stage").getOrCreate()
    questions = spark.createDataFrame(list(make_rows(count)), SCHEMA).localCheckpoint()
    job = Job("bench", SLICE, "run 1", 1, "", settings, spark)
    begun = time.monotonic()
    answered = ask_all(job, get_stage(EXTRACT), questions, Tally()).count()
    ended = time.monotonic()
    stored = read_table(spark, job.lake, COMPLETIONS).count()
    result.write_text(json.dumps({"begun": begun, "ended": ended, "answered": answered, "stored": stored}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
