"""Taking a slice out of every table: as if it had never been, but for what was paid."""

from __future__ import annotations

import logging

from persona_hub.core.keys import parse_slice_key
from persona_hub.spark.job import Job
from persona_hub.spark.tables import delete_rows
from persona_hub.synthesis import registry
from persona_hub.tables import bronze, silver
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.ops import FAILED_FILES
from persona_hub.tables.small import replace_slice

log = logging.getLogger(__name__)

# The ledger stays: it is what was paid for, and names no page. So do the counts and publications: what happened.
_TABLES = (
    PERSONAS, bronze.PAGES, silver.QUESTIONS, silver.CANDIDATES, silver.SURVIVORS, silver.REMOVALS,
    silver.WORD_KEYS, silver.VECTORS, silver.VECTOR_CELLS,
)  # fmt: skip


def delete_slice(job: Job, slice_key: str) -> None:
    """Deletes the slice's rows, samples included, table by table; run again, it goes on where it was killed."""
    parse_slice_key(slice_key)  # it goes into a condition
    for table in (*_TABLES, *(task_table(name) for name in registry.names())):
        delete_rows(job.spark, job.lake, table, f"slice = '{slice_key}'")
    replace_slice(job.lake, FAILED_FILES, [], slice_key)
    log.info("%s is gone; its exports are files: delete their folder", slice_key)
