"""Signatures of a corpus: what is compared instead of texts and vectors. Stored once a row, and only ever added to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.errors import LakeError
from persona_hub.spark.tables import append_rows, read_table
from persona_hub.tables.model import Table
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.small import read_rows

if TYPE_CHECKING:
    from persona_hub.spark.cell_step import CellStep
    from persona_hub.spark.word_step import WordStep


@dataclass(frozen=True)
class Corpus:
    """What is deduplicated together.

    Attributes:
        name: `personas`, or the name of a data type.
        table: where its published rows are.
        lake: root of the tables.
    """

    name: str
    table: Table
    lake: str
    spark: SparkSession

    def read(self, table: Table, where: Mapping[str, Any]) -> DataFrame:
        """Rows of a table of signatures that belong to this corpus, with the given column values."""
        return read_table(self.spark, self.lake, table, corpus=self.name, **where)


def add_signatures(
    corpus: Corpus, step: WordStep | CellStep, signed: DataFrame, slice_keys: Sequence[str] | None = None
) -> None:
    """Stores signatures that are not there yet, in one commit: a repeat adds none.

    Args:
        signed: as `step.sign` gives them.
        slice_keys: slices that they belong to; None where none of them can be there.
    """
    signed = signed.withColumns({"corpus": F.lit(corpus.name)} | {name: F.lit(value) for name, value in step.made_with.items()})
    if slice_keys is not None:
        stored = corpus.read(step.table, step.made_with).where(F.col("slice").isin(list(slice_keys)))
        if not stored.isEmpty():
            same = ["row_id", "text_hash"]
            signed = signed.join(stored.select(*same), on=same, how="left_anti")
    append_rows(signed, corpus.lake, step.table)


def name_steps(steps: Sequence[WordStep | CellStep]) -> str:
    """What must be the same wherever rows are compared, as canonical JSON: stage → how it compares."""
    return json.dumps({step.stage: step.identity for step in steps}, sort_keys=True)


def check_made_alike(corpus: Corpus, steps: Sequence[WordStep | CellStep], slice_keys: Sequence[str]) -> None:
    """Refuses a hub of which slices other than these were deduplicated with other settings: they could not be compared.

    Raises:
        LakeError: names both.
    """
    newest: dict[str, dict[str, Any]] = {}
    for row in read_rows(corpus.lake, PUBLICATIONS, filters=[("table_name", "=", corpus.table.name)]):
        if row["slice"] not in slice_keys and row["publication"] > newest.get(row["slice"], {}).get("publication", 0):
            newest[row["slice"]] = row
    ours = name_steps(steps)
    for key, row in sorted(newest.items()):
        theirs = json.loads(row["manifest"]).get("compared_by")
        if row["rows"] and theirs != ours:
            raise LakeError(
                f"{corpus.table.name}: slice {key} was deduplicated by {theirs or 'an older version of this program'}, "
                f"and this run would by {ours}",
                wanted="one way of comparing in the whole hub",
                cure="set PERSONA_HUB_DEDUP__* and PERSONA_HUB_EMBEDDING__* as they were, or run recompute_hub, which "
                "deduplicates all that is there by the new ones and asks no model",
            )
