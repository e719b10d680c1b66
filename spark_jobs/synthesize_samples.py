"""gold.personas → model → ledger → rules → gate → gold.task_<type>: one data type of one slice.

Asking and publishing are one job: on a small slice starting a driver costs more than either, and what was
answered is in the ledger before anything is read, so a failed gate never pays again.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.quality.gate import check_slice, measure_slice
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.publish import describe_making, publish_slice
from persona_hub.spark.questions import ask_about, count_rules, mark_copies, shape_removals
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.stages import SYNTHESIZE, CallingStage, get_stage
from persona_hub.synthesis import registry
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.silver import REMOVALS

PUBLISH = "publish_samples"


def synthesize_samples(job: Job) -> None:
    stage, data_type = get_stage(SYNTHESIZE, job.data_type), registry.get(job.data_type)
    sources = choose_personas(job, stage)
    with job.stage(stage.name) as tally:
        answers = ask_about(
            job, stage, sources, lambda text, reason, persona, _: data_type.read(text, reason, persona), tally
        )
        tally.rows_in, tally.rows_out = sources.count(), answers.count()
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
    data_type = registry.get(job.data_type)
    table = task_table(data_type.name)
    with job.stage(PUBLISH) as tally:
        answers = mark_copies(read).localCheckpoint()
        accepted, refused = answers.where("rule IS NULL"), answers.where("rule IS NOT NULL")
        rows = accepted.select(
            F.lit(job.slice).alias("slice"),
            F.col("row_id").alias("sample_id"),
            F.col("source_id").alias("persona_id"),
            F.col("source_text").alias("persona"),
            F.lit(data_type.description).alias("description"),
            *("text", "payload", "text_hash", "completion_key", "prompt_id", "prompt_hash", "model"),
        ).select(*table.column_names)
        tally.rows_in, tally.removed = answers.count(), count_rules(refused)
        removals = shape_removals(job, PUBLISH, refused)
        replace_rows(removals, job.lake, REMOVALS, slice=job.slice, stage=PUBLISH, data_type=data_type.name)
        figures = measure_slice(read.where("rule IS NULL"), tally.rows_in)
        check_slice(rows, figures, table, job.slice, job.settings)
        tally.rows_out, _ = publish_slice(job, table, lambda _: rows, describe_making(rows))


if __name__ == "__main__":
    run_job(synthesize_samples)
