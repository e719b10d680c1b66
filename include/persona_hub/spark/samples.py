"""The samples of one data type as a corpus of the dedup engine: texts that say the same, and texts that embed one another."""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import LakeError
from persona_hub.spark.again import describe_steps
from persona_hub.spark.dedup import deduplicate, make_containment_step, make_word_step, prepare_steps
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.outcome import Step, shape_removals
from persona_hub.spark.publish import describe_publication, find_last_number
from persona_hub.spark.signatures import Corpus
from persona_hub.spark.tables import ensure_table, merge_slice, read_table, read_version, replace_rows
from persona_hub.synthesis import registry
from persona_hub.tables.gold import task_table
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.silver import REMOVALS
from persona_hub.tables.small import merge_rows

log = logging.getLogger(__name__)

PUBLISH = "publish_samples"


def open_samples(job: Job) -> tuple[Corpus, list[Step]]:
    """The corpus of the job's data type, and its two steps."""
    corpus = Corpus(job.data_type, task_table(job.data_type), job.lake, job.spark)
    return corpus, [make_word_step(job.settings), make_containment_step(job.settings)]


def select_samples(samples: DataFrame) -> DataFrame:
    """Published samples as the engine takes rows."""
    return samples.select(F.col("sample_id").alias("row_id"), "slice", "text", "text_hash", "publication")


def shape_samples(answers: DataFrame, name: str) -> DataFrame:
    """Accepted answers as rows of the type's table."""
    renamed = answers.withColumnsRenamed(
        {"row_id": "sample_id", "source_id": "persona_id", "source_text": "persona"}
    ).withColumn("description", F.lit(registry.get(name).description))
    return renamed.select(*task_table(name).column_names)


def recompute_samples(job: Job, tally: Tally, *, dry_run: bool) -> None:
    """Deduplicates what is published of a data type by the settings of now, in one commit.

    What was removed by stricter settings than these comes back when its slice runs again, and costs no call.

    Raises:
        LakeError: somebody published while it compared.
    """
    corpus, steps = open_samples(job)
    table = corpus.table
    ensure_table(job.spark, job.lake, table)
    version = read_version(job.lake, table)  # before the rows: whoever publishes in between is noticed
    published = read_table(job.spark, job.lake, table)
    new = select_samples(published).localCheckpoint()
    slices = sorted(row["slice"] for row in new.select("slice").distinct().collect())
    steps = prepare_steps(corpus, steps, new, job.settings, job.run_id, slices)
    outcome = deduplicate(corpus, new, None, steps, slices)
    kept = published.join(
        outcome.gone.select(F.col("row_id").alias("sample_id")), on="sample_id", how="left_anti"
    ).localCheckpoint()
    tally.rows_in, tally.rows_out = new.count(), kept.count()
    tally.removed = {step.rule: n for step, n in zip(steps, outcome.removed, strict=True) if n}
    if dry_run or not slices:
        return
    gone = shape_removals(job, steps, outcome, new, [PUBLISH] * len(steps)).localCheckpoint()
    with hold_lease(job.lake, table.name) as lease:
        if read_version(job.lake, table) != version:
            raise LakeError(
                f"{table.name} has changed while it was recomputed",
                wanted="no publication meanwhile",
                cure="run it again, while synthesize_tasks is paused",
            )
        where: dict[str, str | tuple[str, ...]] = {"slice": tuple(slices), "stage": PUBLISH, "data_type": job.data_type}
        known = read_table(job.spark, job.lake, REMOVALS, **where).join(
            gone.select("row_id"), on="row_id", how="left_anti"
        )
        replace_rows(known.select(*gone.columns).unionByName(gone).localCheckpoint(), job.lake, REMOVALS, **where)
        lease.verify()
        merge_slice(kept, job.lake, table, None)
        counts = {row["slice"]: row["count"] for row in kept.groupBy("slice").count().collect()}
        number, now = find_last_number(job, table), read_version(job.lake, table)
        entries = [
            describe_publication(
                job, table, number + place, counts.get(key, 0), now, {"recomputed": True, **describe_steps(steps)}, key
            )
            for place, key in enumerate(slices, 1)
        ]
        merge_rows(job.lake, PUBLICATIONS, entries)
