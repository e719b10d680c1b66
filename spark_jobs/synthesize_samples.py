"""gold.personas → model → ledger: one question of the data type to each persona chosen from the slice."""

from __future__ import annotations

from pyspark.sql import functions as F

from persona_hub.core.keys import sample_id
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.questions import ask_about
from persona_hub.spark.tables import read_table
from persona_hub.synthesis import registry
from persona_hub.tables.gold import PERSONAS

STAGE = "synthesize_samples"


def synthesize_samples(job: Job) -> None:
    data_type, llm, limit = registry.get(job.data_type), job.settings.llm, job.settings.synthesis.personas_per_type
    name = data_type.name
    personas = read_table(job.spark, job.lake, PERSONAS, slice=job.slice)
    sources = personas.select(F.col("persona_id").alias("source_id"), F.col("persona").alias("source_text"))
    if limit is not None:
        # By a hash with the type in it: always the same personas, other ones for each type.
        sources = sources.orderBy(F.xxhash64("source_id", F.lit(name)), "source_id").limit(limit)
    sources = sources.localCheckpoint()
    with job.stage(STAGE) as tally:
        ask_about(
            job,
            STAGE,
            sources,
            data_type.load_prompt(llm),
            build=lambda persona: data_type.build_request(persona, llm),
            name_row=lambda persona: sample_id(persona, name, 0),
            tally=tally,
        )
        tally.rows_in = tally.rows_out = sources.count()


if __name__ == "__main__":
    run_job(synthesize_samples)
