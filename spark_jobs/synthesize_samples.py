"""gold.personas → model → ledger → rules → gate → gold.task_<type>: one data type of one slice.

Asking and publishing are one job: on a small slice starting a driver costs more than either, and what was
answered is in the ledger before anything is read, so a failed gate never pays again.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.core.keys import sample_id
from persona_hub.quality.gate import check_slice, measure_slice
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.publish import describe_making, publish_slice
from persona_hub.spark.questions import ask_about, count_rules, mark_copies, read_answers, shape_removals
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.synthesis import registry
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.silver import REMOVALS

ASK, PUBLISH = "synthesize_samples", "publish_samples"


def synthesize_samples(job: Job) -> None:
    personas = choose_personas(job)
    ask_personas(job, personas)
    publish_samples(job, personas)


def choose_personas(job: Job) -> DataFrame:
    """All of the slice, or as many as the settings say: by a hash with the type in it, so always the same ones."""
    limit = job.settings.synthesis.personas_per_type
    personas = read_table(job.spark, job.lake, PERSONAS, slice=job.slice)
    sources = personas.select(F.col("persona_id").alias("source_id"), F.col("persona").alias("source_text"))
    if limit is not None:
        sources = sources.orderBy(F.xxhash64("source_id", F.lit(job.data_type)), "source_id").limit(limit)
    return sources.localCheckpoint()


def ask_personas(job: Job, sources: DataFrame) -> None:
    data_type, llm = registry.get(job.data_type), job.settings.llm
    name = data_type.name
    with job.stage(ASK) as tally:
        ask_about(
            job,
            ASK,
            sources,
            data_type.load_prompt(llm),
            build=lambda persona: data_type.build_request(persona, llm),
            name_row=lambda persona: sample_id(persona, name, 0),
            tally=tally,
        )
        tally.rows_in = tally.rows_out = sources.count()


def publish_samples(job: Job, sources: DataFrame) -> None:
    data_type = registry.get(job.data_type)
    table = task_table(data_type.name)
    with job.stage(PUBLISH) as tally:
        read = read_answers(job, ASK, sources, data_type.read)
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
