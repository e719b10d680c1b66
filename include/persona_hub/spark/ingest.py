"""Crawl files → staged pages, one task per file that is missing; then the rules that look at more than one page.

    files ── staged already? ──► executors read and judge (crawl/reading.py) ──► staging ──► copies, budgets ──► bronze.pages

Through Spark's own channels go the counts only: pages travel in the staged Parquet files, whose narrow columns decide.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from persona_hub import errors
from persona_hub.core.page_judge import PageJudge
from persona_hub.crawl.calendar import SlicePlan
from persona_hub.crawl.files import make_access
from persona_hub.crawl.progress import report_progress
from persona_hub.crawl.reading import FilePlan, stage_file
from persona_hub.crawl.staging import FAILURE, REPORT, FileFailure, FileReport, Staging
from persona_hub.errors import LakeError, SourceError, UnreadableFile
from persona_hub.spark.job import Job
from persona_hub.spark.rows import map_rows
from persona_hub.spark.tables import read_table
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.ops import FAILED_FILES
from persona_hub.tables.small import replace_slice

log = logging.getLogger(__name__)
STAGED_SCHEMA = ", ".join(f"{c.name} {c.type}" for c in PAGES.columns) + ", rule STRING, detail STRING"
DECISION_COLUMNS = ("page_id", "url", "domain", "text_hash", "rule", "detail")
BROADCAST_ROWS = 500_000
NAMED = 10


def read_files(job: Job, plan: SlicePlan, staging: Staging, blocked: frozenset[str]) -> None:
    """Reads the files of a slice that its staging lacks; afterwards each has its report there, or its failure.

    Raises:
        SettingsError: the host wants a contact, and none is set.
        LakeError: on an executor, the staging cannot be written.
    """
    access, settings = make_access(job.settings), job.settings.crawl
    there = set(staging.list_ordinals(REPORT))
    missing = [FilePlan(plan.key, plan.base, number, path) for number, path in plan.files if number not in there]
    log.info("ingest_pages: %d files, %d read already, %d to read", len(plan.files), len(there), len(missing))
    if not missing:
        return
    hosts = job.spark.sparkContext.broadcast(blocked)

    def read(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        judge = PageJudge(settings, hosts.value)
        for row in rows:
            stage_file(staging, missing[row["id"]], access, judge)
            yield row

    # A range has exactly one row in each of its partitions; a hash of the ordinals would leave some with two files.
    with report_progress(staging, len(plan.files)):
        map_rows(job.spark.range(0, len(missing), 1, len(missing)), read, "id BIGINT").collect()
    hosts.destroy()


def read_results(plan: SlicePlan, staging: Staging) -> tuple[dict[int, FileReport], dict[int, FileFailure]]:
    """Reports and failures by the files' ordinals.

    A file has one of them: where Spark has tried its task again, or twice at once, the try that read it counts.

    Raises:
        LakeError: a file has neither.
    """
    reports = {number: staging.read_report(number) for number in staging.list_ordinals(REPORT)}
    unread = [number for number in staging.list_ordinals(FAILURE) if number not in reports]
    failures = {number: staging.read_failure(number) for number in unread}
    if lost := [path for number, path in plan.files if number not in reports and number not in failures]:
        raise LakeError(
            f"{len(lost)} files have left nothing in {staging.folder}: {', '.join(lost[:NAMED])}",
            wanted="a report or a failure of each, in a folder that all executors share",
            cure="see that PERSONA_HUB_LAKE is the same folder on all machines, then run the task again",
        )
    return reports, failures


def record_failures(job: Job, plan: SlicePlan, failures: dict[int, FileFailure]) -> None:
    """Makes the slice's rows of ops.failed_files these; a file that was read by now has none any more."""
    paths, now = dict(plan.files), datetime.now(UTC)
    rows = [
        {
            "slice": plan.key,
            "file_ordinal": number,
            "file_base": plan.base,
            "file_path": paths[number],
            "error": failure.error,
            "reason": failure.reason,
            "run_id": job.run_id,
            "attempt": job.attempt,
            "failed_at": now,
        }
        for number, failure in failures.items()
    ]
    replace_slice(job.lake, FAILED_FILES, rows, plan.key)


def check_failures(plan: SlicePlan, failures: dict[int, FileFailure], max_share: float) -> None:
    """Ends the task where too many files are missing, or all.

    Raises:
        SourceError: a later try may read them.
        UnreadableFile: every one of them is what no retry cures.
    """
    # A share of shares: 0.29 * 100 is less than 29.
    if len(failures) / len(plan.files) <= max_share and len(failures) < len(plan.files):
        return
    paths = dict(plan.files)
    named = [f"{paths[number]} ({failure.reason[:300].rstrip('.')})" for number, failure in failures.items()]
    more = f"; and {len(named) - NAMED} more" if len(named) > NAMED else ""
    helps = any(getattr(errors, failure.error).retry_helps for failure in failures.values())
    raise (SourceError if helps else UnreadableFile)(
        f"{len(failures)} of {len(plan.files)} files of {plan.key} cannot be read: " + "; ".join(named[:NAMED]) + more,
        wanted=f"at most {max_share:.0%} of them missing (PERSONA_HUB_CRAWL__MAX_FAILED_SHARE), and at least one there",
        cure="see ops.failed_files for each reason, then run the task again: it reads only these",
    )


def sum_events(reports: Iterable[FileReport]) -> dict[str, int]:
    """Adds up what the files' reports count."""
    events: Counter[str] = Counter()
    for report in reports:
        events.update(report.events)
    return dict(events)


def read_staged(spark: SparkSession, staging: Staging, ordinals: Iterable[int]) -> DataFrame:
    """The staged pages of these files."""
    paths = [str(staging.pages_path(number)) for number in ordinals]
    return spark.read.schema(STAGED_SCHEMA).parquet(*paths)


def choose_pages(job: Job, staged: DataFrame, count: int) -> tuple[DataFrame, DataFrame]:
    """Drops, of the pages that passed, copies and what is over a budget: `copy`, `domain_budget`, `over_budget`.

    Args:
        staged: the slice's pages.
        count: how many they are.

    Returns:
        The kept pages as they lie in their files, and DECISION_COLUMNS of all that any rule has dropped; these are
        kept on the executors.
    """
    crawl = job.settings.crawl
    passed = staged.where("rule IS NULL")
    pages = passed.select(*DECISION_COLUMNS)
    stored = read_table(job.spark, job.lake, PAGES).select("slice", "page_id", "text_hash")
    pages = mark_earlier_copies(mark_copies(pages), _send(pages, count), stored, job.slice)
    pages = mark_over_budget(mark_domain_budget(pages, crawl.pages_per_domain), crawl.pages_per_slice)
    gone = pages.where("rule IS NOT NULL").localCheckpoint()
    kept = passed.join(_send(gone.select("page_id"), count), on="page_id", how="left_anti")
    return kept, gone.unionByName(staged.where("rule IS NOT NULL").select(*DECISION_COLUMNS)).localCheckpoint()


def mark_copies(pages: DataFrame) -> DataFrame:
    """Gives the rule `copy` to a page with the text of another one of the slice that comes first by its id."""
    marked = pages.withColumn("first", F.min("page_id").over(Window.partitionBy("text_hash")))
    return _mark(marked, F.col("first") != F.col("page_id"), "copy", F.col("first")).drop("first")


def mark_earlier_copies(pages: DataFrame, asked: DataFrame, stored: DataFrame, slice_key: str) -> DataFrame:
    """Gives the rule `copy` to a page whose text another slice has in bronze.pages.

    Not where this slice has the text there already: who came second when two slices ran side by side, or ran again,
    stays, so a repeat gives the same pages.

    Args:
        pages: DECISION_COLUMNS of the slice.
        asked: text_hash of at least these pages. The table may hold a thousand times as many: where these are few,
            its rows stream past them, and nothing of it is shuffled.
        stored: slice, page_id and text_hash of bronze.pages.
        slice_key: whose pages these are.
    """
    found = stored.join(asked.select("text_hash"), on="text_hash", how="left_semi").groupBy("text_hash").agg(
        F.min(F.when(F.col("slice") != slice_key, F.col("page_id"))).alias("earlier"),
        F.max(F.col("slice") == slice_key).alias("own"),
    )
    marked = pages.join(found, on="text_hash", how="left")
    return _mark(marked, F.col("earlier").isNotNull() & ~F.col("own"), "copy", F.col("earlier")).drop("earlier", "own")


def mark_domain_budget(pages: DataFrame, limit: int | None) -> DataFrame:
    """Gives the rule `domain_budget` to a domain's pages beyond `limit`: those with the highest hash of their id go."""
    if limit is None:
        return pages
    window = Window.partitionBy("domain", F.col("rule").isNull()).orderBy(F.xxhash64("page_id"), "page_id")
    ranked = pages.withColumn("place", F.row_number().over(window))
    return _mark(ranked, F.col("place") > limit, "domain_budget", F.col("domain")).drop("place")


def mark_over_budget(pages: DataFrame, limit: int | None) -> DataFrame:
    """Gives the rule `over_budget` to the pages beyond `limit`: those with the highest hash of their id go."""
    if limit is None:
        return pages
    pages = pages.localCheckpoint()
    order = F.struct(F.xxhash64("page_id"), F.col("page_id"))
    chosen = pages.where("rule IS NULL").select("page_id").orderBy(order).limit(limit)
    marked = pages.join(chosen.withColumn("chosen", F.lit(True)), on="page_id", how="left")
    return _mark(marked, F.col("chosen").isNull(), "over_budget", F.lit("")).drop("chosen")


def _mark(pages: DataFrame, goes: Any, rule: str, detail: Any) -> DataFrame:
    goes = F.col("rule").isNull() & goes
    return pages.withColumn("detail", F.when(goes, detail).otherwise(F.col("detail"))).withColumn(
        "rule", F.when(goes, rule).otherwise(F.col("rule"))
    )


def _send(rows: DataFrame, count: int) -> DataFrame:
    """Rows that go whole to each executor where they are few, so that the other side of a join is not shuffled."""
    return F.broadcast(rows) if count <= BROADCAST_ROWS else rows
