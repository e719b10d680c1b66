"""A table's description, and what is derived from it."""

from __future__ import annotations

import pytest

from persona_hub.synthesis import registry
from persona_hub.tables import FIXED, Column, Table
from persona_hub.tables.gold import task_table

SMALL = Table(
    "ops.things",
    "What 'things' are.",
    (Column("slice", "STRING", "The slice"), Column("size", "BIGINT", "A \\ size", nullable=True)),
    key=("slice",),
    cluster=("slice",),
    checks={"size_right": "size >= 0"},
    change_feed=True,
)


def test_create_statement() -> None:
    assert SMALL.create_statement("/lake/") == (
        "CREATE TABLE IF NOT EXISTS delta.`/lake/ops/things` (slice STRING NOT NULL COMMENT 'The slice', "
        "size BIGINT COMMENT 'A \\\\ size') USING delta CLUSTER BY (slice) COMMENT 'What \\'things\\' are.' "
        "TBLPROPERTIES ('delta.constraints.size_right' = 'size >= 0', 'delta.enableChangeDataFeed' = 'true')"
    )
    plain = Table("ops.plain", "Plain.", (Column("a", "STRING", "A"),), key=("a",))
    assert plain.create_statement("/lake") == (
        "CREATE TABLE IF NOT EXISTS delta.`/lake/ops/plain` (a STRING NOT NULL COMMENT 'A') USING delta COMMENT 'Plain.'"
    )


def test_schema_for_data_frames() -> None:
    assert SMALL.schema == "slice STRING NOT NULL, size BIGINT"
    assert SMALL.column_names == ["slice", "size"]


@pytest.mark.parametrize(
    ("columns", "key", "cluster"),
    [(("a", "a"), ("a",), ()), (("a", "b"), ("c",), ()), (("a", "b"), ("a",), ("c",))],
    ids=["a column twice", "a key that is no column", "clustered by no column"],
)
def test_a_wrong_description_is_refused(columns: tuple[str, ...], key: tuple[str, ...], cluster: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="table ops.bad: a column is named twice, or a key column is missing"):
        Table("ops.bad", "Bad.", tuple(Column(name, "STRING", "?") for name in columns), key, cluster)


def test_every_table_is_described_once() -> None:
    tables = [*FIXED, *map(task_table, registry.names())]
    assert len({table.name for table in tables}) == len(tables) == 21
    assert [table.name for table in tables if table.change_feed] == ["gold.personas"]
    unclustered = ["bronze.crawl_files", "silver.dedup_references", "ops.stage_counts", "ops.publications", "ops.failed_files"]
    assert [table.name for table in tables if not table.cluster] == unclustered
    assert all(column.doc for table in tables for column in table.columns)
