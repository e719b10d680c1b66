"""Questions and answers about rows: rows → `silver.questions` → ledger → accepted rows and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.core.answers import cut_thoughts
from persona_hub.core.keys import text_hash
from persona_hub.core.verdict import Rejection
from persona_hub.llm.requests import Request
from persona_hub.settings import LlmSettings
from persona_hub.spark.asking import ask_all, find_endpoints
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.ledger import count_calls, find_answers
from persona_hub.spark.rows import map_rows
from persona_hub.spark.tables import replace_rows
from persona_hub.stages import CallingStage, get_stage
from persona_hub.synthesis.data_type import Sample
from persona_hub.tables.silver import QUESTIONS, REMOVALS

QUESTION_SCHEMA = (
    "row_id STRING, source_id STRING, source_text STRING, endpoint BIGINT, completion_key STRING, prompt_id STRING, "
    "prompt_hash STRING, model STRING, request STRING"
)
READ_SCHEMA = (
    "row_id STRING, source_id STRING, source_text STRING, completion_key STRING, prompt_id STRING, prompt_hash STRING, "
    "model STRING, text STRING, payload STRING, text_hash STRING, rule STRING, detail STRING"
)


Reader = Callable[[str | None, str | None, str, str], str | Sample | Rejection]
"""Answer, finish reason, source text and prompt hash → what was accepted, or the rule that refuses it."""


def ask_about(job: Job, stage: CallingStage, sources: DataFrame, read: Reader, tally: Tally) -> DataFrame:
    """Asks one question about each source row, anew where a rule of `llm.ask_again` refuses the answer, and reads it.

    Which question was asked about which row goes into `silver.questions`; calls, tokens and money into the tally.

    Args:
        sources: columns source_id and source_text.
        read: how an answer is judged; runs on executors.

    Returns:
        One row of READ_SCHEMA per source; `rule` is null where the answer was accepted. Kept on the executors.
    """
    endpoints = find_endpoints(job, stage)
    again, max_asks = endpoints[0].ask_again, endpoints[0].max_asks
    questions = map_rows(sources, _make_questions(job, stage, endpoints), QUESTION_SCHEMA).localCheckpoint()
    settled: list[DataFrame] = []
    for asking in range(1, max_asks + 1):
        answered = ask_all(job, stage, questions, tally)
        # The same model at two addresses is asked the same question, under the same key.
        once = questions.dropDuplicates(["row_id", "completion_key"])
        chosen = once.join(answered, on=["row_id", "completion_key"], how="inner")
        answers = _read_answers(job, chosen, read)
        refused = answers.where(F.col("rule").isin(*again)) if again and asking < max_asks else answers.limit(0)
        settled.append(answers.join(refused.select("row_id"), on="row_id", how="left_anti"))
        if not (anew := refused.count()):
            break
        tally.events["asked_anew"] = tally.events.get("asked_anew", 0) + anew
        questions = map_rows(
            questions.join(refused.select("row_id"), on="row_id", how="left_semi"), _ask_anew, QUESTION_SCHEMA
        ).localCheckpoint()
    answers = reduce(DataFrame.unionByName, settled).localCheckpoint()
    asked = answers.withColumns(
        {name: F.lit(value) for name, value in
         (("slice", job.slice), ("stage", stage.name), ("data_type", stage.data_type))}
    )
    replace_rows(asked, job.lake, QUESTIONS, slice=job.slice, stage=stage.name, data_type=stage.data_type)
    count_calls(job, stage, tally)
    return answers


def _make_questions(
    job: Job, stage: CallingStage, endpoints: tuple[LlmSettings, ...]
) -> Callable[[Iterator[dict[str, Any]]], Iterable[dict[str, Any]]]:
    name, data_type = stage.name, stage.data_type

    def question(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        stage = get_stage(name, data_type)
        prompts = [stage.load_prompt(endpoint) for endpoint in endpoints]
        for row in rows:
            for number, (endpoint, prompt) in enumerate(zip(endpoints, prompts, strict=True)):
                request = stage.build(row["source_text"], endpoint)
                yield row | {
                    "row_id": stage.name_row(row["source_id"]),
                    "endpoint": number,
                    "completion_key": request.key,
                    "prompt_id": prompt.id,
                    "prompt_hash": prompt.hash,
                    "model": request.model,
                    "request": request.to_json(),
                }

    return question


def _ask_anew(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in rows:
        request = Request.from_json(row["request"]).ask_anew()
        yield row | {"completion_key": request.key, "request": request.to_json()}


def _read_answers(job: Job, chosen: DataFrame, read: Reader) -> DataFrame:
    """Judges the ledger's answers to these questions."""

    def judge(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for row in rows:
            accepted: str | Sample | Rejection
            if row["error_class"]:
                accepted = Rejection(f"model_{row['error_class']}", row["error"] or "")
            else:
                text = cut_thoughts(row["text"])
                accepted = read(text, row["finish_reason"], row["source_text"], row["prompt_hash"])
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

    answers = find_answers(
        job, chosen.select("completion_key").distinct(), "text", "finish_reason", "error_class", "error"
    )
    return map_rows(chosen.join(answers, on="completion_key", how="inner"), judge, READ_SCHEMA).localCheckpoint()


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

