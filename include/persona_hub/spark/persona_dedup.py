"""A slice's candidates to its survivors: the paper's two steps, within the slice and against the hub."""

from __future__ import annotations

from pyspark.sql import functions as F

from persona_hub.spark.dedup import EMBEDDINGS, WORDS, deduplicate, prepare_steps
from persona_hub.spark.job import Job
from persona_hub.spark.outcome import count_removals, shape_removals
from persona_hub.spark.personas import open_personas, select_rows
from persona_hub.spark.publish import find_last_number, stay_where_unchanged
from persona_hub.spark.signatures import check_made_alike, name_steps
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.silver import CANDIDATES, REMOVALS, SURVIVORS

STAGES = (WORDS, EMBEDDINGS)


def deduplicate_personas(job: Job) -> None:
    """silver.persona_candidates → removals and silver.persona_survivors of the job's slice; signatures of those that stay."""
    corpus, steps = open_personas(job)
    check_made_alike(corpus, steps, [job.slice])
    compared_by = name_steps(steps)
    seen = find_last_number(job, PERSONAS)  # before the hub is read: what is published in between is compared once more
    candidates = read_table(job.spark, job.lake, CANDIDATES, slice=job.slice)
    hub = read_table(job.spark, job.lake, PERSONAS)
    with job.stage(WORDS) as words, job.stage(EMBEDDINGS) as embeddings:
        own, others = hub.where(F.col("slice") == job.slice), hub.where(F.col("slice") != job.slice)
        new = stay_where_unchanged(select_rows(candidates), own, "persona_id").localCheckpoint()
        steps = prepare_steps(corpus, steps, new, job.settings, job.run_id, [job.slice])
        stored = None if others.isEmpty() else select_rows(others)
        outcome = deduplicate(corpus, new, stored, steps, [job.slice])
        count_removals(outcome, steps, new.count(), (words, embeddings))
        kept = new.join(outcome.gone.select("row_id"), on="row_id", how="left_anti").select(
            F.col("row_id").alias("persona_id"),
            F.lit(seen).alias("hub_publication"),
            F.lit(compared_by).alias("compared_by"),
        )
        removals = shape_removals(job, steps, outcome, new, STAGES)
        replace_rows(removals, job.lake, REMOVALS, slice=job.slice, stage=STAGES)
        replace_rows(candidates.join(kept, on="persona_id", how="inner"), job.lake, SURVIVORS, slice=job.slice)
