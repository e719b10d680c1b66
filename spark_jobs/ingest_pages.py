"""Crawl files of the slice → bronze.pages: reads, applies the page rules, keeps who was dropped and why."""

from __future__ import annotations

from pyspark.sql import functions as F

from persona_hub.core.hosts import read_blocked_hosts
from persona_hub.crawl.calendar import plan_slice
from persona_hub.crawl.staging import open_staging
from persona_hub.spark.ingest import (
    check_failures,
    choose_pages,
    read_files,
    read_results,
    read_staged,
    record_failures,
    sum_events,
)
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.questions import count_rules, shape_removals
from persona_hub.spark.tables import ensure_table, read_table, replace_rows
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.silver import REMOVALS

STAGE = "ingest_pages"


def ingest_pages(job: Job) -> None:
    crawl = job.settings.crawl
    plan = plan_slice(job.lake, job.settings.calendar, job.slice)
    with job.stage(STAGE) as tally:
        blocked = read_blocked_hosts(crawl.rules.blocked_hosts)
        staging = open_staging(job.lake, plan, crawl, blocked)
        for table in (PAGES, REMOVALS):  # one that is not as described is told before hours of reading
            ensure_table(job.spark, job.lake, table)
        read_files(job, plan, staging, blocked)
        reports, failures = read_results(plan, staging)
        record_failures(job, plan, failures)
        check_failures(plan, failures, crawl.max_failed_share)
        files = {"files_read": len(reports), "files_failed": len(failures)}
        tally.events = {name: count for name, count in files.items() if count} | sum_events(reports.values())
        tally.rows_in = sum(report.pages for report in reports.values())

        staged = read_staged(job.spark, staging, reports)
        kept, dropped = choose_pages(job, staged, tally.rows_in)
        tally.removed = count_rules(dropped)
        # Of a dropped page nothing stays but its address and the reason.
        reason = F.concat_ws(": ", "url", F.when(F.col("detail") != "", F.col("detail")))
        removals = shape_removals(job, STAGE, dropped.withColumn("detail", reason), "page_id", None)
        replace_rows(removals, job.lake, REMOVALS, slice=job.slice, stage=STAGE)
        replace_rows(kept, job.lake, PAGES, slice=job.slice)
        tally.rows_out = read_table(job.spark, job.lake, PAGES, slice=job.slice).count()
    if not failures:
        staging.remove()


if __name__ == "__main__":
    run_job(ingest_pages)
