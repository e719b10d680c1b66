"""Small tables without Spark: create, merge and read by delta-rs, whose commits are atomic across processes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, Schema
from pyarrow.parquet import filters_to_expression

from persona_hub.core.keys import parse_slice_key
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.model import Table

MANY_FILES = 50
_ARROW = {
    "STRING": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "BINARY": pa.binary(),
    "MAP<STRING,BIGINT>": pa.map_(pa.string(), pa.int64()),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The table's columns for Arrow."""
    return pa.schema([pa.field(c.name, _ARROW[c.type], c.nullable) for c in table.columns])


def merge_rows(lake: str, table: Table, rows: list[dict[str, Any]]) -> None:
    """Inserts rows, or replaces those with the same key: a repeat changes nothing. Takes the table's lease."""
    if rows:
        _merge(lake, table, rows, None)


def replace_slice(lake: str, table: Table, rows: list[dict[str, Any]], slice_key: str) -> None:
    """Makes the slice consist of these rows, in one commit; with none where it has no rows and gets none."""
    if rows or read_rows(lake, table, filters=[("slice", "=", slice_key)]):
        _merge(lake, table, rows, slice_key)


def _merge(lake: str, table: Table, rows: list[dict[str, Any]], slice_key: str | None) -> None:
    if table.cluster:
        raise ValueError(f"{table.name} is clustered: delta-rs does not write it")
    if slice_key is not None:
        parse_slice_key(slice_key)  # it goes into a condition
    schema = arrow_schema(table)
    source = pa.Table.from_pylist(rows, schema=schema)
    with hold_lease(lake, table.name):
        if not DeltaTable.is_deltatable(table.path(lake)):
            DeltaTable.create(
                table.path(lake), Schema.from_arrow(schema), mode="ignore", name=table.name, description=table.doc
            )
        stored = DeltaTable(table.path(lake))
        # Each a commit of its own: one that died in between has left some out.
        there = stored.metadata().configuration
        for name, rule in table.checks.items():
            if f"delta.constraints.{name}" not in there:
                stored.alter.add_constraint({name: rule})
        same = " AND ".join(f"t.{name} = s.{name}" for name in table.key)
        merge = DeltaTable(table.path(lake)).merge(source, same, source_alias="s", target_alias="t")
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        if slice_key is not None:
            merge = merge.when_not_matched_by_source_delete(f"t.slice = '{slice_key}'")
        merge.execute()
        if len(stored.file_uris()) > MANY_FILES:  # each merge adds one, and each reader opens all
            DeltaTable(table.path(lake)).optimize.compact()


def read_rows(
    lake: str, table: Table, *, filters: list[tuple[str, str, Any]] | None = None, version: int | None = None
) -> list[dict[str, Any]]:
    """All rows that pass `filters` ((column, operator, value), anded); none where the table does not exist yet."""
    if not DeltaTable.is_deltatable(table.path(lake)):
        return []
    stored = DeltaTable(table.path(lake), version=version).to_pyarrow_table()
    if filters:
        # Not while reading: delta-rs merges write their texts as string views, which the scanner cannot compare.
        stored = stored.filter(filters_to_expression(filters))
    rows: list[dict[str, Any]] = stored.to_pylist(maps_as_pydicts="strict")
    return rows
