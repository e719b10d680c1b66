"""The calling stage: questions in, answers in the ledger. Nothing is asked twice.

    questions ── not in the ledger? ──► executors ask ──► spool ──► fold ──► silver.completions

The fold is the one way into the ledger, for a normal end and after a crash alike: it is idempotent, and the next
run begins with it. No frame that calls is sorted, cached or used twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm.requests import Request
from persona_hub.llm.spool import SpoolWriter, clear_spool, count_spooled, read_spool, spool_folder
from persona_hub.llm.stream import answer_all
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.rows import map_rows
from persona_hub.spark.tables import append_new, read_table
from persona_hub.tables.silver import COMPLETIONS

log = logging.getLogger(__name__)
REPORT_S = 5.0


def ask_all(job: Job, stage: str, questions: DataFrame, tally: Tally) -> None:
    """Brings an answer (or a lasting failure) for each question into the ledger.

    Args:
        job: the run; its settings say which endpoint, and how many calls each partition has in flight.
        stage: stage that asks; with slice and data type it names the spool.
        questions: columns completion_key and request (JSON of llm.requests.Request); read twice, so cheap.
        tally: calls, tokens and money are counted into it, those of a killed try included.

    Raises:
        ModelUnavailable, ModelMisconfigured: by way of the Spark task; what was answered before is in the spool.
    """
    settings = job.settings.llm
    if not settings.base_url:
        raise ModelMisconfigured(
            "No model endpoint is set",
            wanted="the Airflow connection persona_hub_llm, or PERSONA_HUB_LLM__BASE_URL",
            cure="create the connection with the address up to /v1 as its host",
        )
    folder = spool_folder(job.lake, job.slice, stage, job.data_type)
    _fold(job, folder, tally)
    distinct = questions.select("completion_key", "request").dropDuplicates(["completion_key"])
    known = read_table(job.spark, job.lake, COMPLETIONS).select("completion_key")
    pending = distinct.join(known, on="completion_key", how="left_anti").localCheckpoint()
    total, open_calls = distinct.count(), pending.count()
    tally.from_ledger = total - open_calls
    log.info("%s: %d questions, %d of them answered already, %d to ask", stage, total, total - open_calls, open_calls)
    if not open_calls:
        return
    slice_key = job.slice

    def call(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        # An earlier try of this very task may have been answered in part.
        answered = {row["completion_key"] for row in read_spool(folder)[0]}
        writer = SpoolWriter(folder, slice_key, stage, settings)
        try:
            requests = (Request.from_json(row["request"]) for row in rows if row["completion_key"] not in answered)
            yield {"answered": sum(1 for _ in answer_all(requests, settings, writer.write))}
        finally:
            writer.close()

    with _report_progress(stage, folder, open_calls):
        map_rows(pending, call, "answered BIGINT").agg(F.sum("answered")).collect()
    _fold(job, folder, tally)


def _fold(job: Job, folder: Path, tally: Tally) -> None:
    rows, sizes = read_spool(folder)
    if rows:
        append_new(job.spark.createDataFrame(rows, COMPLETIONS.schema), job.lake, COMPLETIONS)
        money = [row["money"] for row in rows] + ([tally.money] if tally.calls else [])
        tally.money = None if None in money else sum(money)
        tally.calls += len(rows)
        tally.prompt_tokens += sum(row["prompt_tokens"] or 0 for row in rows)
        tally.completion_tokens += sum(row["completion_tokens"] or 0 for row in rows)
    clear_spool(sizes)


@contextmanager
def _report_progress(stage: str, folder: Path, total: int) -> Iterator[None]:
    """A line every few seconds: answered of pending, rate, time left."""
    begun, done = time.monotonic(), threading.Event()

    def report() -> None:
        while not done.wait(REPORT_S):
            answered = count_spooled(folder)
            rate = answered / (time.monotonic() - begun)
            left = f"{(total - answered) / rate:.0f} s left" if rate else "no answer yet"
            log.info("%s: %d of %d answered, %.1f a second, %s", stage, answered, total, rate, left)

    thread = threading.Thread(target=report, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
