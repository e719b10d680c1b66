"""gold.personas → model → ledger → rules → gate → gold.task_<type>: one data type of one slice.

Asking and publishing are one job: on a small slice starting a driver costs more than either, and what was
answered is in the ledger before anything is read, so a failed gate never pays again.
"""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import SurvivorsOutdated
from persona_hub.quality.gate import check_slice, measure_slice
from persona_hub.spark.again import check_unchanged, compare_again, describe_steps
from persona_hub.spark.dedup import deduplicate, prepare_steps
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.outcome import shape_removals as shape_duplicates
from persona_hub.spark.publish import describe_making, find_last_number, publish_slice, stay_where_unchanged
from persona_hub.spark.questions import ask_about, count_rules, shape_removals
from persona_hub.spark.samples import PUBLISH, open_samples, select_samples, shape_samples
from persona_hub.spark.signatures import check_made_alike
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.stages import SYNTHESIZE, CallingStage, get_stage
from persona_hub.synthesis import registry
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.silver import REMOVALS

log = logging.getLogger("persona_hub")


def synthesize_samples(job: Job) -> None:
    stage, data_type = get_stage(SYNTHESIZE, job.data_type), registry.get(job.data_type)
    sources = choose_personas(job, stage)
    with job.stage(stage.name) as tally:
        answers = ask_about(
            job, stage, sources, lambda text, reason, persona, _: data_type.read(text, reason, persona), tally
        )
        tally.rows_in, tally.rows_out = sources.count(), answers.count()
    try:
        publish_samples(job, answers)
    except SurvivorsOutdated as late:
        log.info("%s", late)
        publish_samples(job, answers)


def choose_personas(job: Job, stage: CallingStage) -> DataFrame:
    """All of the slice, or as many as the settings say: by a hash with the type in it, so always the same ones."""
    personas = read_table(job.spark, job.lake, PERSONAS, slice=job.slice)
    sources = personas.select(F.col("persona_id").alias("source_id"), F.col("persona").alias("source_text"))
    if (limit := stage.limit(job.settings)) is not None:
        # As CallingStage.order_by_hash.
        sources = sources.orderBy(F.md5(F.concat(F.lit(f"{job.data_type}|"), "source_id"))).limit(limit)
    return sources.localCheckpoint()


def publish_samples(job: Job, read: DataFrame) -> None:
    corpus, steps = open_samples(job)
    table = corpus.table
    check_made_alike(corpus, steps, [job.slice])
    with job.stage(PUBLISH) as tally:
        refused = shape_removals(job, PUBLISH, read.where("rule IS NOT NULL"))
        seen = find_last_number(job, table)  # before the rows: what is published in between is compared once more
        published = read_table(job.spark, job.lake, table)
        own, others = published.where(F.col("slice") == job.slice), select_samples(published.where(F.col("slice") != job.slice))
        accepted = read.where("rule IS NULL").withColumn("slice", F.lit(job.slice))
        new = stay_where_unchanged(accepted, own, "sample_id").localCheckpoint()
        steps = prepare_steps(corpus, steps, new, job.settings, job.run_id, [job.slice])
        outcome = deduplicate(corpus, new, None if others.isEmpty() else others, steps, [job.slice])
        copies = shape_duplicates(job, steps, outcome, new, [PUBLISH] * len(steps)).localCheckpoint()
        kept = new.join(copies.select("row_id"), on="row_id", how="left_anti").localCheckpoint()
        tally.rows_in = read.count()
        figures = measure_slice(accepted, tally.rows_in)
        as_published = shape_samples(kept.withColumn("publication", F.coalesce("publication", F.lit(1))), job.data_type)
        check_slice(as_published, figures, table, job.slice, job.settings)

        def prepare(number: int) -> DataFrame:
            check_made_alike(corpus, steps, [job.slice])
            check_unchanged(job, table, seen, number)
            hub = select_samples(read_table(job.spark, job.lake, table))
            late = compare_again(job, corpus, steps, kept, hub, seen, PUBLISH, copies)
            gone = refused.unionByName(copies).unionByName(late).localCheckpoint()
            tally.removed = count_rules(gone)
            replace_rows(gone, job.lake, REMOVALS, slice=job.slice, stage=PUBLISH, data_type=job.data_type)
            stays = kept.join(late.select("row_id"), on="row_id", how="left_anti")
            return shape_samples(stays.withColumn("publication", F.coalesce("publication", F.lit(number))), job.data_type)

        tally.rows_out, _ = publish_slice(job, table, prepare, describe_making(as_published) | describe_steps(steps))


if __name__ == "__main__":
    run_job(synthesize_samples)
