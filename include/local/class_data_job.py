"""What `class_data` runs to see which classes a job needs: each kind of step that the jobs take, over a few rows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import SparkSession

from persona_hub.core.keys import page_id, persona_id
from persona_hub.settings import Settings
from persona_hub.spark.dedup import deduplicate, make_word_step
from persona_hub.spark.personas import select_rows
from persona_hub.spark.rows import map_rows
from persona_hub.spark.signatures import Corpus
from persona_hub.spark.tables import append_rows, ensure_table, merge_slice, read_table, replace_rows
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.silver import CANDIDATES, QUESTIONS, REMOVALS

SLICE = "CLASS-DATA/00001"
SCHEMA = PERSONAS.schema + ", stage STRING, data_type STRING, row_id STRING, source_id STRING, text STRING, rule STRING"


def make_rows(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in rows:
        page = page_id(SLICE, 0, row["id"])
        yield dict.fromkeys(PERSONAS.column_names, "x" * 32) | {
            "slice": SLICE, "persona_id": persona_id(page, 0), "page_id": page, "parent_id": None, "relation": None,
            "hop": 0, "publication": 1, "completion_key": "0" * 64, "text_hash": f"{row['id'] // 2:032}",
            "stage": "a", "data_type": "", "row_id": persona_id(page, 0), "source_id": page, "rule": None,
            "persona": f"A person who reads page {row['id'] // 2}", "text": "",
        }  # fmt: skip


def run_steps(spark: SparkSession, lake: str) -> int:
    rows = map_rows(spark.range(40).repartition(2), make_rows, SCHEMA).localCheckpoint()
    for _ in range(2):  # the second time there is something to replace
        replace_rows(rows, lake, CANDIDATES, slice=SLICE)
        replace_rows(rows, lake, QUESTIONS, slice=SLICE, stage="a", data_type="")
        append_rows(spark.createDataFrame(rows.limit(3).collect(), SCHEMA), lake, QUESTIONS)
        ensure_table(spark, lake, PERSONAS)
        merge_slice(rows, lake, PERSONAS, SLICE)
        replace_rows(spark.createDataFrame([], REMOVALS.schema), lake, REMOVALS, slice=SLICE, stage=("a", "b"))
    new = select_rows(rows.drop("row_id", "text")).localCheckpoint()
    corpus = Corpus("class data", PERSONAS, lake, spark)
    gone = deduplicate(corpus, new, new.limit(0), [make_word_step(Settings())], [SLICE])
    stored = read_table(spark, lake, PERSONAS, slice=SLICE)
    asked = read_table(spark, lake, QUESTIONS, slice=SLICE).join(stored, on="completion_key", how="left_anti").count()
    return gone.removed[0] + stored.count() + asked


if __name__ == "__main__":
    session = SparkSession.builder.getOrCreate()
    counted = run_steps(session, sys.argv[1])
    session.stop()
    if counted != 20 + 40 + 40 - 40:
        sys.exit(f"Spark and Delta do not work together here: {counted}")
