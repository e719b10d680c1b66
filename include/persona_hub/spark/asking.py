"""The calling stage, seen from the driver: what is not in the ledger is asked, spooled and folded.

    questions ── not in the ledger? ──► executors ask (calling.py) ──► spool ──► fold (ledger.py) ──► silver.completions

No frame that calls is sorted, cached or used twice.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub import errors
from persona_hub.errors import ModelError, ModelMisconfigured, ModelUnavailable
from persona_hub.llm.batch_store import find_open_keys
from persona_hub.llm.budget import name_scopes, raise_spent
from persona_hub.llm.client import hide_credentials
from persona_hub.llm.pricing import find_price
from persona_hub.llm.probe import find_features
from persona_hub.llm.progress import report_progress
from persona_hub.llm.spending import read_spent
from persona_hub.llm.spool import spool_folder
from persona_hub.settings import LlmSettings
from persona_hub.spark.calling import RESULT, STOP, CallPlan, make_partition_caller
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.ledger import find_answers, fold_spool
from persona_hub.spark.rows import map_rows
from persona_hub.stages import CallingStage

log = logging.getLogger(__name__)
# Calls that a killed run has out end within one time limit; twice that is nobody's.
PATIENCE = 2.0


def find_endpoints(job: Job, stage: CallingStage) -> tuple[LlmSettings, ...]:
    """The stage's endpoints, in the order in which they are tried.

    Raises:
        ModelMisconfigured: one has no address.
    """
    endpoints = job.settings.llm.for_stage(stage.name, stage.data_type)
    if not all(endpoint.base_url for endpoint in endpoints):
        raise ModelMisconfigured(
            "No model endpoint is set",
            wanted="the Airflow connection persona_hub_llm, or PERSONA_HUB_LLM__BASE_URL",
            cure="create the connection with the address up to /v1 as its host",
        )
    return endpoints


def ask_all(job: Job, stage: CallingStage, questions: DataFrame, tally: Tally) -> DataFrame:
    """Brings an answer (or a lasting failure) to each row's question into the ledger.

    Args:
        job: the run; its settings say which endpoints, and within which limits.
        stage: with slice and data type it names the spool.
        questions: row_id, endpoint (place in `find_endpoints`), completion_key and request (JSON of `Request`); a
            row per row_id and endpoint, kept on the executors.
        tally: rows that were answered already, and what the calls met with, are counted into it.

    Returns:
        row_id and the completion_key that answers it, of the first endpoint that did; kept on the executors.

    Raises:
        ModelUnavailable, ModelMisconfigured, BudgetReached: what was answered before is in the ledger.
    """
    endpoints = find_endpoints(job, stage)
    patience_s = PATIENCE * max(endpoint.timeout_s for endpoint in endpoints)
    fold_spool(job, stage, patience_s)
    answers = _match_answers(job, questions)
    _refuse_open_batches(job, stage, questions, answers)
    total, known = _count_questions(questions.where("endpoint = 0")), _count_questions(answers)
    tally.from_ledger += known
    for number, endpoint in enumerate(endpoints):
        open_ = questions.where(F.col("endpoint") == number).join(answers, on="row_id", how="left_anti")
        distinct = open_.select("completion_key", "request").dropDuplicates(["completion_key"])
        pending = distinct.repartition(job.spark.sparkContext.defaultParallelism).localCheckpoint()
        calls = pending.count()
        log.info("%s: %d questions, %d answered already, %d to ask of %s", stage.label, total, known, calls, endpoint.model)
        if not calls:
            return answers
        try:
            _call(job, stage, endpoint, pending, calls, tally)
        except Exception as error:
            # What was bought is brought home, whatever happened. A signal leaves that to the next run.
            folded = fold_spool(job, stage, patience_s)
            if not isinstance(error, ModelUnavailable) or number + 1 == len(endpoints):
                raise
            log.warning("%s; going on with %s", error, endpoints[number + 1].model)
            _add(tally.events, {"fallbacks": 1})
        else:
            folded = fold_spool(job, stage, patience_s)
        if folded == calls:
            return answers.unionByName(open_.select("row_id", "completion_key")).localCheckpoint()
        answers = _match_answers(job, questions)
        known = _count_questions(answers)
    if known < total:
        raise ModelError(
            f"{total - known} of {total} questions have no answer",
            wanted="an answer to each",
            cure="run the task again: it asks only these; the other answers are kept",
        )
    return answers


def _match_answers(job: Job, questions: DataFrame) -> DataFrame:
    known = find_answers(job, questions.select("completion_key").distinct(), "answered_at")
    matched = questions.join(known.select("completion_key"), on="completion_key", how="inner")
    return matched.groupBy("row_id").agg(F.min_by("completion_key", "endpoint").alias("completion_key")).localCheckpoint()


def _refuse_open_batches(job: Job, stage: CallingStage, questions: DataFrame, answers: DataFrame) -> None:
    """What a batch was bought for is not bought once more by calls."""
    if not (open_keys := find_open_keys(job.lake, job.slice, stage.name, stage.data_type)):
        return
    left = questions.join(answers, on="row_id", how="left_anti").select("completion_key").distinct().collect()
    if batches := Counter(open_keys[key] for (key,) in left if key in open_keys):
        raise ModelMisconfigured(
            f"{batches.total()} questions of {stage.label} are in batches that have not come home: "
            + ", ".join(sorted(batches)),
            wanted="their answers, which are paid for",
            cure=f"name {stage.name} in PERSONA_HUB_BATCH__STAGES and clear its batch task, or remove these records",
        )


def _count_questions(rows: DataFrame) -> int:
    return rows.select("completion_key").distinct().count()  # rows with the same words are one question


def _call(job: Job, stage: CallingStage, endpoint: LlmSettings, pending: DataFrame, calls: int, tally: Tally) -> None:
    folder = spool_folder(job.lake, job.slice, stage.name, stage.data_type)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).unlink(missing_ok=True)
    price = find_price(job.settings, endpoint.model)
    if job.settings.budget.is_set:
        now = datetime.now(UTC)
        spent = read_spent(job.lake, job.run_id, job.slice, stage.name, stage.data_type, now)
        scopes = name_scopes(job.run_id, f"{job.slice}/{stage.label}", now.timestamp())
        raise_spent(job.lake, {scope: spent[name] for name, scope in scopes.items()})
    plan = CallPlan(
        lake=job.lake,
        folder=folder,
        fields={
            "slice": job.slice,
            "stage": stage.name,
            "data_type": stage.data_type,
            "run_id": job.run_id,
            "prompt_hash": stage.load_prompt(endpoint).hash,
            "model": endpoint.model,
        },
        endpoint=endpoint,
        features=find_features(job.lake, endpoint),
        price=price,
        budget=job.settings.budget,
        stage=f"{job.slice}/{stage.label}",
    )
    try:
        with report_progress(stage.label, folder, calls):
            results = map_rows(pending, make_partition_caller(plan), RESULT).collect()
    except BaseException:
        (folder / STOP).write_text("the driver gave up")  # Spark lets the other workers go on for a while
        raise
    stats = [json.loads(row["stats"]) for row in results]
    _add(tally.events, {"refused": sum(each["refused"] for each in stats)})
    _add(tally.events, {"other_model": sum(each["other_model"] for each in stats)})
    raised = [getattr(errors, row["error"])(row["found"], wanted=row["wanted"], cure=row["cure"]) for row in results if row["error"]]
    if raised:
        raise min(raised, key=lambda error: (error.retry_helps, type(error) is ModelUnavailable))
    failed = sum((Counter(each["failed"]) for each in stats), Counter[str]())
    if stopped := sorted({each["stopped"] for each in stats if each["stopped"]}):
        raise ModelError(
            f"The calls were stopped: {'; '.join(stopped)}",
            wanted="all questions asked",
            cure="run the task again: it asks only the rest; the other answers are kept",
        )
    if failed:
        raise ModelUnavailable(
            f"The model endpoint {hide_credentials(endpoint.base_url or '')} left {failed.total()} of {calls} calls "
            "unanswered: " + ", ".join(f"{name} {count}" for name, count in failed.most_common()),
            wanted="an answer to each",
            cure="run the task again: it asks only these; the other answers are kept",
        )


def _add(events: dict[str, int], more: dict[str, int]) -> None:
    for name, number in more.items():
        if number:
            events[name] = events.get(name, 0) + number
