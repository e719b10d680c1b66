"""silver.persona_candidates → silver.persona_survivors: word sets, then embeddings, within the slice and the hub."""

from __future__ import annotations

from collections import Counter

from pyspark.sql import functions as F

from persona_hub.spark.dedup import STEPS, find_removals, make_removal_rows
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.publish import stay_where_unchanged
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.spark.vectors import embed_rows, read_vectors
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.silver import CANDIDATES, REMOVALS, SURVIVORS


def deduplicate_personas(job: Job) -> None:
    candidates = read_table(job.spark, job.lake, CANDIDATES, slice=job.slice)
    hub = read_table(job.spark, job.lake, PERSONAS)
    with job.stage(STEPS[0]) as words, job.stage(STEPS[1]) as embeddings:
        rows = candidates.select(F.col("persona_id").alias("row_id"), F.col("persona").alias("text"), "text_hash")
        own = hub.where(F.col("slice") == job.slice)
        new = embed_rows(job, stay_where_unchanged(rows, own, "persona_id"), own)
        others = hub.where(F.col("slice") != job.slice)
        removals = find_removals(new, read_vectors(job, others), job.settings.dedup)
        gone = Counter(removal.step for removal in removals)
        words.rows_in = new.count()
        words.rows_out = embeddings.rows_in = words.rows_in - gone[0]
        embeddings.rows_out = embeddings.rows_in - gone[1]
        words.removed = {"similar_words": gone[0]} if gone[0] else {}
        embeddings.removed = {"similar_embeddings": gone[1]} if gone[1] else {}
        removal_rows = make_removal_rows(job, removals, new).localCheckpoint()
        kept = new.join(removal_rows, on="row_id", how="left_anti").select(
            F.col("row_id").alias("persona_id"),
            F.lit(hub.agg(F.max("publication")).first()[0] or 0).alias("hub_publication"),
        )
        replace_rows(removal_rows, job.lake, REMOVALS, slice=job.slice, stage=STEPS)
        replace_rows(candidates.join(kept, on="persona_id", how="inner"), job.lake, SURVIVORS, slice=job.slice)


if __name__ == "__main__":
    run_job(deduplicate_personas)
