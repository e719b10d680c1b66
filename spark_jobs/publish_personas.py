"""silver.persona_survivors → gate → gold.personas: compared once more with what others have published since."""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.recall import highest_share
from persona_hub.errors import SurvivorsOutdated
from persona_hub.quality.gate import check_slice, measure_slice
from persona_hub.spark.again import check_compared_alike, check_unchanged, compare_again, describe_steps
from persona_hub.spark.dedup import EMBEDDINGS
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.persona_dedup import STAGES, deduplicate_personas
from persona_hub.spark.personas import add_word_order, open_personas, select_rows, shape_personas
from persona_hub.spark.publish import describe_making, publish_slice, stay_where_unchanged
from persona_hub.spark.questions import count_rules
from persona_hub.spark.ranks import count_candidates
from persona_hub.spark.signatures import check_made_alike
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.tables.counts import find_last_count
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.silver import CANDIDATES, QUESTIONS, REMOVALS, SURVIVORS

log = logging.getLogger("persona_hub")

STAGE = "publish_personas"


def publish_personas(job: Job) -> None:
    try:
        publish_survivors(job)
    except SurvivorsOutdated as late:
        log.info("%s", late)
        deduplicate_personas(job)
        publish_survivors(job)


def publish_survivors(job: Job) -> None:
    own = read_table(job.spark, job.lake, PERSONAS, slice=job.slice)
    survivors = read_table(job.spark, job.lake, SURVIVORS, slice=job.slice)
    check_compared_alike(survivors, open_personas(job)[1], job.slice)
    # Looked up anew: an earlier try may have published them, and a number is for ever.
    survivors = stay_where_unchanged(survivors.withColumnRenamed("persona_id", "row_id"), own, "persona_id")
    rows = shape_personas(job, survivors.withColumnRenamed("row_id", "persona_id"), [job.slice]).localCheckpoint()
    with job.stage("check_personas") as tally:
        asked = read_table(job.spark, job.lake, QUESTIONS, slice=job.slice, data_type="").count()
        as_published = rows.withColumn("publication", F.coalesce("publication", F.lit(1))).select(*PERSONAS.column_names)
        candidates = read_table(job.spark, job.lake, CANDIDATES, slice=job.slice)
        figures = measure_slice(candidates, asked, _read_recall(job))
        check_slice(as_published, figures, PERSONAS, job.slice, job.settings)
        tally.rows_in = tally.rows_out = rows.count()
    with job.stage(STAGE) as tally:
        tally.rows_in = rows.count()

        def prepare(number: int) -> DataFrame:
            corpus, steps = open_personas(job)  # under the lease: these cells count
            check_made_alike(corpus, steps, [job.slice])
            newest = rows.agg(F.max("hub_publication")).first()
            seen = (newest and newest[0]) or 0
            if newest and newest[0] is not None:  # there are rows
                check_unchanged(job, PERSONAS, seen, number)
            hub, steps = select_rows(read_table(job.spark, job.lake, PERSONAS)), add_word_order(corpus, steps)
            manifest.update(describe_steps(steps))
            removed = read_table(job.spark, job.lake, REMOVALS, slice=job.slice, stage=STAGES)
            gone = compare_again(job, corpus, steps, select_rows(rows), hub, seen, STAGE, removed)
            tally.removed = count_rules(gone)
            replace_rows(gone, job.lake, REMOVALS, slice=job.slice, stage=STAGE)
            kept = rows.join(gone.select(F.col("row_id").alias("persona_id")), on="persona_id", how="left_anti")
            return kept.withColumn("publication", F.coalesce("publication", F.lit(number)))

        manifest = describe_making(rows) | {"candidates": count_candidates(candidates).get(job.slice, "")}
        tally.rows_out, _ = publish_slice(job, PERSONAS, prepare, manifest)


def _read_recall(job: Job) -> float:
    counted = find_last_count(job.lake, job.slice, EMBEDDINGS, "")
    events = dict(counted["events"]) if counted else {}
    return highest_share(events.get("recall_found", 0), events.get("recall_pairs", 0))


if __name__ == "__main__":
    run_job(publish_personas)
