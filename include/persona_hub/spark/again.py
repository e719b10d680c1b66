"""Under the lease, just before a commit: what others have published since a slice was deduplicated."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import LakeError, SurvivorsOutdated
from persona_hub.spark.dedup import compare_stored
from persona_hub.spark.job import Job
from persona_hub.spark.outcome import Step, shape_removals
from persona_hub.spark.signatures import Corpus, name_steps
from persona_hub.spark.signing import ensure_signed
from persona_hub.tables.model import Table
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.silver import REMOVALS
from persona_hub.tables.small import read_rows


def compare_again(
    job: Job, corpus: Corpus, steps: Sequence[Step], rows: DataFrame, published: DataFrame, seen: int, stage: str,
    removed: DataFrame | None = None,
) -> DataFrame:  # fmt: skip
    """Rows that must go after all, as rows of silver.removals. The caller holds the lease of the corpus' table.

    Args:
        steps: as they count now, under the lease.
        rows: row_id, slice, text, text_hash, publication; the slice's survivors.
        published: the same of the whole table.
        seen: newest publication that the survivors were compared with.
        stage: that counts them.
        removed: survivor_id of the slice's rows that its deduplication has removed; None where it has removed none.

    Raises:
        SurvivorsOutdated: a row that goes now had removed another one, which might stay without it.
    """
    others = published.where((F.col("slice") != job.slice) & (F.col("publication") > seen)).localCheckpoint()
    rows = rows.localCheckpoint()
    ensure_signed(corpus, rows, steps, [job.slice])
    if others.isEmpty():
        return job.spark.createDataFrame([], REMOVALS.schema)
    outcome = compare_stored(corpus, rows, others, steps, [job.slice])
    survivors = rows.limit(0) if removed is None else removed.select(F.col("survivor_id").alias("row_id"))
    if (chained := outcome.removals.join(survivors, on="row_id", how="left_semi").first()) is not None:
        raise SurvivorsOutdated(
            f"{chained['row_id']}, for which other rows of {job.slice} were removed, goes for {chained['survivor_id']}, "
            "published since",
            wanted="rows that are removed for rows that stay",
            cure="deduplicate the slice once more: run the task again",
        )
    return shape_removals(job, steps, outcome, rows, [stage] * len(steps)).localCheckpoint()


def describe_steps(steps: Sequence[Step]) -> dict[str, object]:
    """For the manifest: how rows were compared, in full, and in short what must be the same in the whole hub."""
    return {"dedup": {step.stage: step.describe() for step in steps}, "compared_by": name_steps(steps)}


def check_compared_alike(rows: DataFrame, steps: Sequence[Step], slice_key: str) -> None:
    """Refuses survivors that were chosen by other settings than these.

    Raises:
        LakeError: names both.
    """
    ours = name_steps(steps)
    if (other := rows.where(~F.col("compared_by").eqNullSafe(ours)).first()) is not None:
        raise LakeError(
            f"The survivors of {slice_key} were compared by {other['compared_by']}, and publication would by {ours}",
            wanted="one way of comparing from deduplication to publication",
            cure="clear the run from deduplicate_personas, or set PERSONA_HUB_DEDUP__* as it was",
        )


def check_unchanged(job: Job, table: Table, seen: int, number: int) -> None:
    """Refuses survivors that were compared with a table which recompute_hub has changed since, or is about to change.

    Rows that came back have old numbers: a comparison with newer publications would not see them.

    Args:
        seen: newest publication that the survivors were compared with.
        number: of this publication.

    Raises:
        SurvivorsOutdated: it was changed.
        LakeError: it is about to be.
    """
    past = read_rows(job.lake, PUBLICATIONS, filters=[("table_name", "=", table.name), ("publication", ">", seen)])
    if any('"recomputed": true' in row["manifest"] for row in past):
        raise SurvivorsOutdated(
            f"{table.name} was recomputed since {job.slice} was deduplicated",
            wanted="survivors that were compared with the table as it is",
            cure="deduplicate the slice once more: run the task again",
        )
    if seen >= number:
        raise LakeError(
            f"The survivors of {job.slice} are those of a recomputation that has not come to its end",
            wanted="the hub that they belong to",
            cure="run recompute_hub again, as it was",
        )
