"""Ops: the funnel, and what the hub consists of. Small tables, written without Spark, so not clustered."""

from __future__ import annotations

from persona_hub.tables.bronze import SLICE
from persona_hub.tables.model import Column, Table

STAGE_COUNTS = Table(
    "ops.stage_counts",
    "The funnel: one row per stage, slice, data type and finished try. `rows_in` = `rows_out` + all of `removed`, always.",
    (
        SLICE,
        Column("stage", "STRING", "Stage"),
        Column("data_type", "STRING", "Data type; empty for stages of pages and personas"),
        Column("run_id", "STRING", "Airflow's run id"),
        Column("attempt", "BIGINT", "Try of the task; a killed try writes nothing, the next one counts its calls"),
        Column("started_at", "TIMESTAMP", "Start of the stage"),
        Column("seconds", "DOUBLE", "Wall time of the stage"),
        Column("rows_in", "BIGINT", "Rows that came in"),
        Column("rows_out", "BIGINT", "Rows that went on"),
        Column("rows_removed", "BIGINT", "Sum of `removed`"),
        Column("removed", "MAP<STRING,BIGINT>", "Rows removed, by the rule's id"),
        Column("events", "MAP<STRING,BIGINT>", "Other things counted: files read, files cut, digests verified, ..."),
        Column("calls", "BIGINT", "Answers that this try brought into the ledger, those that a killed try had left in the spool included"),
        Column("from_ledger", "BIGINT", "Questions that were answered already"),
        Column("prompt_tokens", "BIGINT", "Of those calls"),
        Column("completion_tokens", "BIGINT", "Of those calls"),
        Column("money", "DOUBLE", "Of those calls, as far as known (`events` counts the `unpriced`); null where no price is known", True),
    ),
    key=("slice", "stage", "data_type", "run_id", "attempt"),
    checks={"every_row_explained": "rows_in = rows_out + rows_removed", "no_negative": "rows_out >= 0 AND calls >= 0"},
)

PUBLICATIONS = Table(
    "ops.publications",
    "Publications by number: what a hub consists of, and with which prompts, models and thresholds it was made.",
    (
        Column("table_name", "STRING", "Table that was published into"),
        Column("publication", "BIGINT", "Number, from 1, never used again"),
        SLICE,
        Column("run_id", "STRING", "Run that published"),
        Column("published_at", "TIMESTAMP", "When"),
        Column("table_version", "BIGINT", "Delta version of the commit"),
        Column("rows", "BIGINT", "Rows of the slice in that version"),
        Column("manifest", "STRING", "JSON: prompts, models, embedding model, dedup thresholds"),
    ),
    key=("table_name", "publication"),
    checks={"number_from_one": "publication >= 1"},
)

FAILED_FILES = Table(
    "ops.failed_files",
    "Crawl files that a slice has not read yet, and why. A later try that reads one takes its row away.",
    (
        SLICE,
        Column("file_ordinal", "BIGINT", "Place of the file in the snapshot's list"),
        Column("file_base", "STRING", "Folder or address under which it was looked for"),
        Column("file_path", "STRING", "Path of the file"),
        Column("error", "STRING", "Class of the error"),
        Column("reason", "STRING", "What was found, wanted, and what to do"),
        Column("run_id", "STRING", "Run that failed to read it last"),
        Column("attempt", "BIGINT", "Try of its task"),
        Column("failed_at", "TIMESTAMP", "When"),
    ),
    key=("slice", "file_ordinal"),
)
