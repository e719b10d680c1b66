"""bronze.pages → model → silver.persona_candidates: Text-to-Persona, one question a page."""

from __future__ import annotations

from pyspark.sql import functions as F

from persona_hub.core.keys import persona_id
from persona_hub.personas.text_to_persona import build_request, load_persona_prompt, read_persona
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.questions import ask_about, count_rules, read_answers, shape_removals
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.silver import CANDIDATES, REMOVALS

STAGE = "extract_candidates"


def extract_candidates(job: Job) -> None:
    llm = job.settings.llm
    pages = read_table(job.spark, job.lake, PAGES, slice=job.slice)
    sources = pages.select(F.col("page_id").alias("source_id"), F.col("text").alias("source_text"))
    with job.stage(STAGE) as tally:
        ask_about(
            job,
            STAGE,
            sources,
            load_persona_prompt(llm),
            build=lambda text: build_request(text, llm),
            name_row=lambda page: persona_id(page, 0),
            tally=tally,
        )
        answers = read_answers(
            job, STAGE, sources, lambda text, reason, _: read_persona(text, reason, load_persona_prompt(llm))
        )
        accepted, refused = answers.where("rule IS NULL"), answers.where("rule IS NOT NULL")
        candidates = accepted.select(
            F.lit(job.slice).alias("slice"),
            F.col("row_id").alias("persona_id"),
            F.col("source_id").alias("page_id"),
            F.col("text").alias("persona"),
            *("text_hash", "completion_key", "prompt_id", "prompt_hash", "model"),
        )
        tally.rows_in, tally.rows_out, tally.removed = answers.count(), accepted.count(), count_rules(refused)
        replace_rows(shape_removals(job, STAGE, refused), job.lake, REMOVALS, slice=job.slice, stage=STAGE)
        replace_rows(candidates, job.lake, CANDIDATES, slice=job.slice)


if __name__ == "__main__":
    run_job(extract_candidates)
