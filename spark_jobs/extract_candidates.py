"""bronze.pages → model → silver.persona_candidates: Text-to-Persona, one question a page."""

from __future__ import annotations

from pyspark.sql import functions as F

from persona_hub.personas.text_to_persona import read_persona
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.questions import ask_about, count_rules, shape_removals
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.stages import EXTRACT, get_stage
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.silver import CANDIDATES, REMOVALS

STAGE = get_stage(EXTRACT)


def extract_candidates(job: Job) -> None:
    prompts = [STAGE.load_prompt(endpoint) for endpoint in job.settings.llm.for_stage(STAGE.name)]
    by_hash = {prompt.hash: prompt for prompt in prompts}
    pages = read_table(job.spark, job.lake, PAGES, slice=job.slice)
    sources = pages.select(F.col("page_id").alias("source_id"), F.col("text").alias("source_text"))
    with job.stage(STAGE.name) as tally:
        answers = ask_about(
            job, STAGE, sources, lambda text, reason, _, prompt: read_persona(text, reason, by_hash[prompt]), tally
        )
        accepted, refused = answers.where("rule IS NULL"), answers.where("rule IS NOT NULL")
        candidates = accepted.select(
            F.lit(job.slice).alias("slice"),
            F.col("row_id").alias("persona_id"),
            F.col("source_id").alias("page_id"),
            F.col("text").alias("persona"),
            *("text_hash", "completion_key", "prompt_id", "prompt_hash", "model"),
        )
        tally.rows_in, tally.rows_out, tally.removed = pages.count(), accepted.count(), count_rules(refused)
        removals = shape_removals(job, STAGE.name, refused)
        replace_rows(removals, job.lake, REMOVALS, slice=job.slice, stage=STAGE.name)
        replace_rows(candidates, job.lake, CANDIDATES, slice=job.slice)


if __name__ == "__main__":
    run_job(extract_candidates)
