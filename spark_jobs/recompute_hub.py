"""gold.personas made anew from all stored candidates by the settings of now; a slice may be dropped. Asks no model."""

from __future__ import annotations

from argparse import BooleanOptionalAction

from pyspark.sql import DataFrame

from persona_hub.core.keys import parse_slice_key
from persona_hub.dedup.recall import highest_share
from persona_hub.errors import UnknownSlice
from persona_hub.quality.gate import check_slice, measure_slice
from persona_hub.spark.drop import delete_slice
from persona_hub.spark.job import WHOLE_HUB, Job, run_job
from persona_hub.spark.recompute import Check, recompute_personas
from persona_hub.spark.samples import recompute_samples
from persona_hub.tables.gold import PERSONAS


def recompute_hub(job: Job, drop: str = "", dry_run: bool = False) -> None:
    if drop:
        parse_slice_key(drop)
        if job.data_type:
            raise UnknownSlice("A slice is dropped from all tables at once", wanted="--drop without --type")
    with job.stage("recompute_hub") as tally:
        if job.data_type:
            recompute_samples(job, tally, dry_run=dry_run)
        else:
            recompute_personas(job, tally, make_check(job), without=drop, dry_run=dry_run)
    if drop and not dry_run:
        delete_slice(job, drop)  # after the hub is without it: a run that dies here is run again


def make_check(job: Job) -> Check:
    """The gate of the whole hub: its rows as a slice's, and the recall."""

    def check(rows: DataFrame, candidates: DataFrame, events: dict[str, int]) -> None:
        recall = highest_share(events.get("recall_found", 0), events.get("recall_pairs", 0))
        figures = measure_slice(candidates, candidates.count(), recall)
        check_slice(rows.select(*PERSONAS.column_names), figures, PERSONAS, WHOLE_HUB, job.settings)

    return check


if __name__ == "__main__":
    run_job(
        recompute_hub,
        options={
            "drop": {"default": "", "help": "slice that shall not have been, as in CC-MAIN-2026-30/00012"},
            "dry_run": {"action": BooleanOptionalAction, "default": False, "help": "say what would change, and change no row"},
        },
    )
