"""gold.personas made anew from all stored candidates by the settings of now; a slice may be dropped. Asks no model."""

from __future__ import annotations

from argparse import BooleanOptionalAction

from persona_hub.core.keys import parse_slice_key
from persona_hub.errors import UnknownSlice
from persona_hub.spark.drop import delete_slice
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.recompute import recompute_personas
from persona_hub.spark.samples import recompute_samples


def recompute_hub(job: Job, drop: str = "", dry_run: bool = False) -> None:
    if drop:
        parse_slice_key(drop)
        if job.data_type:
            raise UnknownSlice("A slice is dropped from all tables at once", wanted="--drop without --type")
    with job.stage("recompute_hub") as tally:
        if job.data_type:
            recompute_samples(job, tally, dry_run=dry_run)
        else:
            recompute_personas(job, tally, without=drop, dry_run=dry_run)
    if drop and not dry_run:
        delete_slice(job, drop)  # after the hub is without it: a run that dies here is run again


if __name__ == "__main__":
    run_job(
        recompute_hub,
        options={
            "drop": {"default": "", "help": "slice that shall not have been, as in CC-MAIN-2026-30/00012"},
            "dry_run": {"action": BooleanOptionalAction, "default": False, "help": "say what would change, and change no row"},
        },
    )
