"""silver.persona_survivors → gate → gold.personas: compared once more with what others have published since."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.quality.gate import check_slice, measure_slice
from persona_hub.spark.dedup import find_removals, make_removal_rows
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.publish import describe_making, publish_slice, stay_where_unchanged
from persona_hub.spark.questions import count_rules
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.spark.vectors import read_vectors
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.silver import CANDIDATES, QUESTIONS, REMOVALS, SURVIVORS

STAGE = "publish_personas"


def publish_personas(job: Job) -> None:
    own = read_table(job.spark, job.lake, PERSONAS, slice=job.slice)
    survivors = read_table(job.spark, job.lake, SURVIVORS, slice=job.slice).withColumnRenamed("persona_id", "row_id")
    # Looked up anew: an earlier try may have published them, and a number is for ever.
    survivors = stay_where_unchanged(survivors, own, "persona_id")
    survivors = survivors.withColumnRenamed("row_id", "persona_id")
    pages = read_table(job.spark, job.lake, PAGES, slice=job.slice).select("page_id", "url")
    rows = survivors.join(pages, on="page_id", how="inner").select(
        "*",
        F.lit(None).cast("STRING").alias("parent_id"),
        F.lit(None).cast("STRING").alias("relation"),
        F.lit(0).alias("hop"),
    ).localCheckpoint()
    with job.stage("check_personas") as tally:
        asked = read_table(job.spark, job.lake, QUESTIONS, slice=job.slice, data_type="").count()
        as_published = rows.withColumn("publication", F.coalesce("publication", F.lit(1))).select(*PERSONAS.column_names)
        figures = measure_slice(read_table(job.spark, job.lake, CANDIDATES, slice=job.slice), asked)
        check_slice(as_published, figures, PERSONAS, job.slice, job.settings)
        tally.rows_in = tally.rows_out = rows.count()
    with job.stage(STAGE) as tally:
        tally.rows_in = rows.count()

        settings = job.settings
        dedup = {"embedding_model": settings.embedding.model, "dedup": settings.dedup.model_dump()}
        manifest = describe_making(rows) | dedup

        def prepare(number: int) -> DataFrame:
            gone = _compare_again(job, rows)
            tally.removed = count_rules(gone)
            replace_rows(gone, job.lake, REMOVALS, slice=job.slice, stage=STAGE)
            kept = rows.join(gone.select(F.col("row_id").alias("persona_id")), on="persona_id", how="left_anti")
            return kept.withColumn("publication", F.coalesce("publication", F.lit(number)))

        tally.rows_out, _ = publish_slice(job, PERSONAS, prepare, manifest)


def _compare_again(job: Job, rows: DataFrame) -> DataFrame:
    """Rows that others, who ran beside us, have published in a similar form since our deduplication."""
    seen = F.lit(rows.agg(F.max("hub_publication")).first()[0] or 0)
    hub = read_table(job.spark, job.lake, PERSONAS)
    since = hub.where((F.col("slice") != job.slice) & (F.col("publication") > seen)).localCheckpoint()
    new = rows.withColumnRenamed("persona", "text").withColumnRenamed("persona_id", "row_id")
    removals = []
    if not since.isEmpty():
        removals = find_removals(read_vectors(job, rows), read_vectors(job, since), job.settings.dedup)
    return make_removal_rows(job, removals, new, stages=(STAGE, STAGE)).localCheckpoint()


if __name__ == "__main__":
    run_job(publish_personas)
