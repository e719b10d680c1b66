"""Crawl files of the slice → bronze.pages: reads, applies the page rules, keeps who was dropped and why."""

from __future__ import annotations

from pyspark.sql import functions as F

from persona_hub.crawl.calendar import plan_slice
from persona_hub.spark.ingest import choose_pages, read_slice, sum_reports
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.questions import count_rules, shape_removals
from persona_hub.spark.tables import replace_rows
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.silver import REMOVALS


def ingest_pages(job: Job) -> None:
    plan = plan_slice(job.settings.calendar, job.slice)
    with job.stage("ingest_pages") as tally:
        read = read_slice(job.spark, plan, job.settings.crawl).localCheckpoint()
        tally.events = sum_reports(row["detail"] for row in read.where("page_id IS NULL").collect())
        pages = choose_pages(read.where("page_id IS NOT NULL"), job.settings.crawl.pages_per_slice).localCheckpoint()
        kept, dropped = pages.where("rule IS NULL"), pages.where("rule IS NOT NULL")
        tally.rows_in, tally.rows_out, tally.removed = pages.count(), kept.count(), count_rules(dropped)
        # Of a dropped page nothing stays but its address and the reason.
        reason = F.concat_ws(": ", "url", F.when(F.col("detail") != "", F.col("detail")))
        removals = shape_removals(job, "ingest_pages", dropped.withColumn("detail", reason), "page_id", None)
        replace_rows(removals, job.lake, REMOVALS, slice=job.slice, stage="ingest_pages")
        replace_rows(kept, job.lake, PAGES, slice=job.slice)


if __name__ == "__main__":
    run_job(ingest_pages)
