"""ledger → rules of the data type → gate → gold.task_<type>."""

from __future__ import annotations

from pyspark.sql import functions as F

from persona_hub.quality.gate import check_slice, measure_slice
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.publish import publish_slice
from persona_hub.spark.questions import count_rules, mark_copies, read_answers, shape_removals
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.synthesis import registry
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.silver import REMOVALS

STAGE = "publish_samples"


def publish_samples(job: Job) -> None:
    data_type = registry.get(job.data_type)
    table, personas = task_table(data_type.name), read_table(job.spark, job.lake, PERSONAS, slice=job.slice)
    sources = personas.select(F.col("persona_id").alias("source_id"), F.col("persona").alias("source_text"))
    with job.stage(STAGE) as tally:
        read = read_answers(job, "synthesize_samples", sources, data_type.read)
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
        removals = shape_removals(job, STAGE, refused)
        replace_rows(removals, job.lake, REMOVALS, slice=job.slice, stage=STAGE, data_type=data_type.name)
        figures = measure_slice(rows, tally.rows_in, sum(tally.removed.values()), "text")
        check_slice(rows, figures, table, job.slice, job.settings)
        made = rows.select("prompt_id", "prompt_hash", "model").dropDuplicates().collect()
        manifest = {"made_with": sorted((row.asDict() for row in made), key=str)}
        tally.rows_out, _ = publish_slice(job, table, lambda _: rows, manifest)


if __name__ == "__main__":
    run_job(publish_samples)
