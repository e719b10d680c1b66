"""Publication: one commit per slice, under the table's lease, after the gate."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.spark.job import Job
from persona_hub.spark.tables import ensure_table, merge_slice, read_table, read_version
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.model import Table
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.small import merge_rows, read_rows

log = logging.getLogger(__name__)


def publish_slice(
    job: Job, table: Table, prepare: Callable[[int], DataFrame], manifest: dict[str, Any]
) -> tuple[int, int]:
    """Makes the slice's part of a gold table consist of the prepared rows.

    Args:
        prepare: called under the lease with the number that new rows of this publication get; returns the rows.
        manifest: what they were made with, for ops.publications.

    Returns:
        rows published, and the version of the table. Rows that are there already keep what they have, the
        number too: a repeat changes no row.
    """
    ensure_table(job.spark, job.lake, table)
    with hold_lease(job.lake, table.name) as lease:
        number = 1 + find_last_number(job, table)
        rows = prepare(number).localCheckpoint()
        count = rows.count()
        lease.verify()
        merge_slice(rows, job.lake, table, job.slice)
        version = read_version(job.lake, table)
        merge_rows(job.lake, PUBLICATIONS, [describe_publication(job, table, number, count, version, manifest)])
    log.info("%s: %d rows of %s published in version %d", table.name, count, job.slice, version)
    return count, version


def find_last_number(job: Job, table: Table) -> int:
    """The number of the table's last publication. Of the rows too: a run that died between its commit and its entry in ops.publications has used its number."""
    past = read_rows(job.lake, PUBLICATIONS, filters=[("table_name", "=", table.name)])
    numbers = [row["publication"] for row in past]
    newest = read_table(job.spark, job.lake, table).agg(F.max("publication")).first()
    numbers.append((newest and newest[0]) or 0)
    return max(numbers, default=0)


def describe_publication(
    job: Job, table: Table, number: int, rows: int, version: int, manifest: dict[str, Any], slice_key: str = ""
) -> dict[str, Any]:
    """A row of ops.publications; of the job's own slice if none is given."""
    return {
        "table_name": table.name,
        "publication": number,
        "slice": slice_key or job.slice,
        "run_id": job.run_id,
        "published_at": datetime.now(UTC),
        "table_version": version,
        "rows": rows,
        "manifest": json.dumps(manifest, sort_keys=True),
    }


def describe_making(rows: DataFrame) -> dict[str, Any]:
    """Prompts and models of rows, for the manifest."""
    made = rows.select("prompt_id", "prompt_hash", "model").dropDuplicates(["prompt_id", "prompt_hash", "model"])
    return {"made_with": sorted((row.asDict() for row in made.collect()), key=str)}


def stay_where_unchanged(rows: DataFrame, published: DataFrame, key: str) -> DataFrame:
    """Adds `publication`: the number under which the same text stands under the same id already, else null."""
    known = published.select(F.col(key).alias("row_id"), "text_hash", "publication")
    return rows.join(known, on=["row_id", "text_hash"], how="left")
