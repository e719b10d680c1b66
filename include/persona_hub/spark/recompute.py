"""The whole hub deduplicated anew from what is stored: with other thresholds, or without a slice. No model is asked.

The result is what the slices would have given one after the other under these settings, with the numbers that their
publications have: each candidate, removed before or not, ranks by the number of its slice's publication.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import LakeError, UnknownSlice
from persona_hub.spark.again import describe_steps
from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.dedup import EMBEDDINGS, WORDS, deduplicate, prepare_steps
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.outcome import shape_removals
from persona_hub.spark.personas import open_personas, shape_personas
from persona_hub.spark.publish import describe_publication, find_last_number
from persona_hub.spark.ranks import count_candidates, find_slice_numbers, rank_rows
from persona_hub.spark.tables import delete_rows, ensure_table, merge_slice, read_table, read_version, replace_rows
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.silver import CANDIDATES, REMOVALS, SURVIVORS
from persona_hub.tables.small import merge_rows

log = logging.getLogger(__name__)

STAGES = (WORDS, EMBEDDINGS, "publish_personas")


Check = Callable[[DataFrame, DataFrame, dict[str, int]], None]
"""The hub's rows to be, the candidates, and what the steps counted (recall_pairs, recall_found)."""


@dataclass(frozen=True)
class Change:
    """What a recomputation makes of the hub, in rows."""

    rows: int
    kept: int
    come: int
    go: int


def recompute_personas(job: Job, tally: Tally, check: Check, *, without: str = "", dry_run: bool = False) -> Change:
    """Deduplicates all candidates of all published slices, and makes the hub consist of those that stay.

    Signatures that are lacking are made and stored; then, under the hub's lease, removals, survivors, one commit of
    the hub, one publication a slice. Killed anywhere, it is run again; a dry run changes nothing but adds signatures.

    Args:
        check: the gate; whatever it raises, nothing is changed.
        without: slice that shall not have been; its rows go, and what they had removed comes back.

    Raises:
        LakeError: somebody published while it compared.
    """
    corpus, steps = open_personas(job)
    ensure_table(job.spark, job.lake, PERSONAS)
    version = read_version(job.lake, PERSONAS)  # before the rows: whoever publishes in between is noticed
    hub = read_table(job.spark, job.lake, PERSONAS)
    candidates = read_table(job.spark, job.lake, CANDIDATES)
    now_there = count_candidates(candidates)
    entered = find_slice_numbers(job.lake, now_there, without)
    # A run that died between its commit and its entry has published all the same.
    known = {row["slice"]: row["number"] for row in hub.groupBy("slice").agg(F.max("publication").alias("number")).collect()} | entered
    if without and without not in known | now_there:
        raise UnknownSlice(f"{without} is not known", wanted="a slice that is in the hub", cure="correct its name")
    numbers = {key: number for key, number in known.items() if number and key != without}
    candidates = candidates.where(F.col("slice").isin(list(numbers)))
    new = rank_rows(job, candidates, hub, numbers).localCheckpoint()
    steps = prepare_steps(corpus, steps, new, job.settings, job.run_id, list(numbers))
    how = describe_steps(steps)
    outcome = deduplicate(corpus, new, None, steps, list(numbers))
    gone = outcome.gone.select(F.col("row_id").alias("persona_id"))
    ranks = new.select(F.col("row_id").alias("persona_id"), "publication")
    kept = candidates.join(gone, on="persona_id", how="left_anti").join(ranks, on="persona_id", how="inner").localCheckpoint()
    there = hub.select("persona_id")
    change = Change(
        rows=new.count(),
        kept=kept.count(),
        come=kept.join(there, on="persona_id", how="left_anti").count(),
        go=there.join(kept.select("persona_id"), on="persona_id", how="left_anti").count(),
    )
    tally.rows_in, tally.rows_out = change.rows, change.kept
    tally.removed = {step.rule: n for step, n in zip(steps, outcome.removed, strict=True) if n}
    tally.events = {name: count for events in outcome.events for name, count in events.items()}
    log.info("recomputed: %d of %d candidates stay, %d come back, %d go", change.kept, change.rows, change.come, change.go)
    if dry_run:
        return change
    rows = shape_personas(job, kept, list(numbers)).localCheckpoint()
    check(rows, candidates, tally.events)
    removals = shape_removals(job, steps, outcome, new, (WORDS, EMBEDDINGS)).localCheckpoint()
    with hold_lease(job.lake, PERSONAS.name) as lease:
        last_there = count_candidates(read_table(job.spark, job.lake, CANDIDATES))
        same = all(now_there.get(key) == last_there.get(key) for key in numbers)
        if not same or read_version(job.lake, PERSONAS) != version or find_slice_numbers(job.lake, now_there, without) != entered:
            raise LakeError(
                f"{'The hub has' if same else 'Candidates have'} changed while the hub was recomputed",
                wanted="neither new candidates nor a publication meanwhile",
                cure="run it again, while extract_personas is paused",
            )
        number, changed = find_last_number(job, PERSONAS), sorted({*numbers, without} - {""})
        if numbers:
            replace_rows(removals, job.lake, REMOVALS, slice=tuple(numbers), stage=STAGES)
            seen = number + len(changed)  # its own number: publishing these before it has ended is refused
            survivors = kept.withColumns({"hub_publication": F.lit(seen), "compared_by": F.lit(how["compared_by"])})
            replace_rows(survivors, job.lake, SURVIVORS, slice=tuple(numbers))
        lease.verify()
        merge_slice(rows, job.lake, PERSONAS, None)
        counts = {row["slice"]: row["count"] for row in rows.groupBy("slice").count().collect()}
        manifest = {"recomputed": True, **how}
        now = read_version(job.lake, PERSONAS)
        entries = [
            describe_publication(
                *(job, PERSONAS, number + place, counts.get(key, 0), now),
                manifest | ({"dropped": True} if key == without else {}),
                key,
            )
            for place, key in enumerate(changed, 1)
        ]
        merge_rows(job.lake, PUBLICATIONS, entries)
    for step in steps:  # what was made for other settings has no use any more
        column = "embedding_model" if isinstance(step, CellStep) else "made_with"
        others = f"corpus = '{corpus.name}' AND {column} <> '{step.made_with[column]}'"
        delete_rows(job.spark, job.lake, step.table, others)
    return change
