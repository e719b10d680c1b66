"""Signatures of a corpus: what is compared instead of texts and vectors. Stored once a row, thousands in a block, and only ever added to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.errors import LakeError
from persona_hub.spark.blocks import SIGNED, Numbers, map_batches
from persona_hub.spark.tables import append_rows, read_table
from persona_hub.tables.model import Table
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.small import read_rows

if TYPE_CHECKING:
    from persona_hub.spark.cell_step import CellStep
    from persona_hub.spark.word_step import WordStep

# A block has megabytes: Spark reads 4,096 rows of a group at once, and looks only after 100 how long it has become.
_SMALL_GROUPS = {
    "parquet.block.size": str(16 << 20),
    "parquet.block.size.row.check.min": "1",
    "parquet.page.size.row.check.min": "1",
}


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


class Signed(NamedTuple):
    """Signatures of new rows that are compared.

    Attributes:
        blocks: slice, rows, block.
        vectors: block and vectors, of the same rows; None: a step that needs none, or rows that were compared with one
            another before.
    """

    blocks: DataFrame
    vectors: DataFrame | None = None


def number_rows(rows: DataFrame) -> DataFrame:
    """Adds `row` and `text_number`: what rows and texts are called in signatures."""
    return rows.withColumns({"row": F.xxhash64("row_id"), "text_number": F.xxhash64("text_hash")})


def read_numbers(step: WordStep | CellStep, signed: DataFrame) -> DataFrame:
    """Columns row and text_number of all rows in blocks."""
    read = step.read

    def unpack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for cell in (cell for batch in batches for cell in batch["block"]):
            columns = [pa.array(np.ascontiguousarray(numbers)) for numbers in read(cell.as_buffer())]
            yield pa.RecordBatch.from_arrays(columns, ["row", "text_number"])

    return signed.select("block").mapInArrow(unpack, "row BIGINT, text_number BIGINT")


Choose = Callable[[Numbers, NDArray[np.uint64]], NDArray[np.bool_]]
"""Numbers of rows, and of rows with their texts (`name_versions`) → which of them."""


def name_versions(rows: Numbers, texts: Numbers) -> NDArray[np.uint64]:
    """One number for a row and its text."""
    return rows.view(np.uint64) ^ (texts.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _choose(kind: type[WordStep | CellStep], batch: pa.RecordBatch, choose: Choose) -> pa.RecordBatch:
    blocks, counts = [], []
    for cell in batch["block"]:
        rows, texts = (np.ascontiguousarray(numbers) for numbers in kind.read(cell.as_buffer()))
        kept = choose(rows, name_versions(rows, texts))
        blocks.append(kind.keep(cell.as_buffer(), kept))
        counts.append(np.count_nonzero(kept))
    columns = [batch["slice"], pa.array(counts, pa.int32()), pa.array(blocks, pa.binary())]
    chosen = pa.RecordBatch.from_arrays(columns, ["slice", "rows", "block"])
    return chosen.filter(pc.greater(chosen["rows"], 0))


def trim_blocks(step: WordStep | CellStep, signed: DataFrame, choose: Choose) -> DataFrame:
    """Blocks as they are stored, of some of their rows only."""
    kind = type(step)  # which is sent to the workers without centroids

    def trim(batch: pa.RecordBatch) -> pa.RecordBatch:
        return _choose(kind, batch, choose)

    return signed.select("slice", "rows", "block").mapInArrow(map_batches(trim), SIGNED)


def add_signatures(corpus: Corpus, step: WordStep | CellStep, signed: DataFrame) -> None:
    """Stores blocks, in one commit. The caller knows that they lack. Args: signed: trimmed."""
    made = {"corpus": F.lit(corpus.name)} | {name: F.lit(value) for name, value in step.made_with.items()}
    for name, value in _SMALL_GROUPS.items():
        corpus.spark.conf.set(name, value)
    try:
        append_rows(signed.withColumns(made), corpus.lake, step.table)
    finally:
        for name in _SMALL_GROUPS:
            corpus.spark.conf.unset(name)


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
