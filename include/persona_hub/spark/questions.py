"""Questions and answers about rows: rows → `silver.questions` → ledger → accepted rows and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from persona_hub.core.keys import text_hash
from persona_hub.core.verdict import Rejection
from persona_hub.errors import LakeError
from persona_hub.llm.requests import Request
from persona_hub.prompts import Prompt
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.ledger import ask_all
from persona_hub.spark.rows import map_rows
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.synthesis.data_type import Sample
from persona_hub.tables.silver import COMPLETIONS, QUESTIONS, REMOVALS

READ_SCHEMA = (
    "row_id STRING, source_id STRING, source_text STRING, completion_key STRING, prompt_id STRING, prompt_hash STRING, "
    "model STRING, text STRING, payload STRING, text_hash STRING, rule STRING, detail STRING"
)


def ask_about(
    job: Job,
    stage: str,
    sources: DataFrame,
    prompt: Prompt,
    build: Callable[[str], Request],
    name_row: Callable[[str], str],
    tally: Tally,
) -> None:
    """Asks one question about each source row, and remembers what was asked about which row.

    Args:
        sources: columns source_id and source_text.
        prompt: what the question is made with.
        build: source text → request; runs on executors.
        name_row: source id → id of the row that the answer becomes.
    """
    prompt_id, prompt_hash, slice_key, data_type = prompt.id, prompt.hash, job.slice, job.data_type

    def question(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for row in rows:
            request = build(row["source_text"])
            yield {
                "slice": slice_key,
                "stage": stage,
                "data_type": data_type,
                "row_id": name_row(row["source_id"]),
                "source_id": row["source_id"],
                "completion_key": request.key,
                "prompt_id": prompt_id,
                "prompt_hash": prompt_hash,
                "model": request.model,
                "request": request.to_json(),
            }

    questions = map_rows(sources, question, QUESTIONS.schema + ", request STRING")
    replace_rows(questions, job.lake, QUESTIONS, slice=job.slice, stage=stage, data_type=job.data_type)
    ask_all(job, stage, questions, tally)


def read_answers(
    job: Job, stage: str, sources: DataFrame, read: Callable[[str | None, str | None, str], str | Sample | Rejection]
) -> DataFrame:
    """Reads the answers to a stage's questions from the ledger.

    Args:
        stage: stage that asked.
        sources: columns source_id and source_text, as they were asked about.
        read: answer, finish reason and source text → what was accepted, or the rule that refuses it.

    Returns:
        One row of READ_SCHEMA per question; `rule` is null where the answer was accepted. Kept on the executors.

    Raises:
        LakeError: a question has no answer in the ledger.
    """

    def judge(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for row in rows:
            accepted: str | Sample | Rejection
            if row["error_class"]:
                accepted = Rejection(f"model_{row['error_class']}", row["error"] or "")
            else:
                accepted = read(row["text"], row["finish_reason"], row["source_text"])
            if isinstance(accepted, str):
                accepted = Sample(accepted)
            if isinstance(accepted, Sample):
                yield row | {
                    "text": accepted.text,
                    "payload": accepted.payload,
                    "text_hash": text_hash(accepted.text),
                }
            else:
                yield row | {"rule": accepted.rule, "detail": accepted.detail}

    questions = read_table(
        job.spark, job.lake, QUESTIONS, slice=job.slice, stage=stage, data_type=job.data_type
    ).drop("slice", "stage", "data_type")
    ledger = read_table(job.spark, job.lake, COMPLETIONS)
    answers = ledger.select("completion_key", "text", "finish_reason", "error_class", "error", F.lit(True).alias("there"))
    joined = questions.join(sources, on="source_id", how="inner").join(answers, on="completion_key", how="left")
    joined = joined.localCheckpoint()
    if missing := joined.where("there IS NULL").count():
        raise LakeError(
            f"{missing} questions of {job.slice} {job.data_type} have no answer in silver.completions",
            wanted="an answer to each",
            cure=f"clear the task that asks ({stage}): it asks only what is missing",
        )
    return map_rows(joined, judge, READ_SCHEMA).localCheckpoint()


def count_rules(refused: DataFrame) -> dict[str, int]:
    """Rows by rule, for the funnel."""
    return {row["rule"]: row["count"] for row in refused.groupBy("rule").count().collect()}


def shape_removals(job: Job, stage: str, refused: DataFrame, row_id: str = "row_id", text: str | None = "text") -> DataFrame:
    """Rows with `rule` and `detail` as rows of silver.removals."""
    return refused.select(
        F.lit(job.slice).alias("slice"),
        F.lit(stage).alias("stage"),
        F.lit(job.data_type).alias("data_type"),
        F.col(row_id).alias("row_id"),
        "rule",
        F.coalesce("detail", F.lit("")).alias("detail"),
        (F.col(text) if text else F.lit(None)).alias("text"),
        *(F.lit(None).alias(name) for name in ("survivor_id", "similarity", "threshold", "method")),
        F.lit(job.run_id).alias("run_id"),
    ).select(*REMOVALS.column_names)


def mark_copies(answers: DataFrame) -> DataFrame:
    """Gives the rule `copy` to an accepted text that another row, first by id, has too."""
    first = F.min("row_id").over(Window.partitionBy("text_hash", F.col("rule").isNull()))
    is_copy = F.col("rule").isNull() & (F.col("row_id") != first)
    return answers.withColumn("detail", F.when(is_copy, first).otherwise(F.col("detail"))).withColumn(
        "rule", F.when(is_copy, "copy").otherwise(F.col("rule"))
    )
