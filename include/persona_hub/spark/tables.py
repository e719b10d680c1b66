"""Delta tables by their descriptions: create, read, replace a slice, merge. Every commit holds the table's lease."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from delta.tables import DeltaTable
from deltalake import DeltaTable as StoredTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.errors import TableMismatch
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.model import Table


def ensure_table(spark: SparkSession, lake: str, table: Table) -> None:
    """Creates the table when it is missing, else checks that it is as described.

    Raises:
        TableMismatch: stored columns differ from the description.
    """
    path = table.path(lake)
    if not StoredTable.is_deltatable(path):
        with hold_lease(lake, table.name):
            spark.sql(table.create_statement(lake))
    stored = {field.name for field in StoredTable(path).schema().fields}
    if stored != set(table.column_names):
        raise TableMismatch(
            f"Table {table.name} at {path} has columns {sorted(stored ^ set(table.column_names))} more or less",
            wanted=", ".join(table.column_names),
            cure="migrate the table (CONTRIBUTING, 'Change a table'), or point PERSONA_HUB_LAKE to another lake",
        )


def read_table(spark: SparkSession, lake: str, table: Table, **where: str | int | tuple[str, ...]) -> DataFrame:
    """The table's rows, those with the given column values only. Creates an empty table when there is none.

    The frame stays at today's version, however often it is used.
    """
    ensure_table(spark, lake, table)
    rows = spark.read.format("delta").option("versionAsOf", read_version(lake, table)).load(table.path(lake))
    return rows.where(_condition(where)) if where else rows


def replace_rows(rows: DataFrame, lake: str, table: Table, **where: str | tuple[str, ...]) -> None:
    """Replaces exactly the rows with the given column values, in one commit: a repeat gives the same table.

    The rows are computed while the lease is held: compute what is heavy before.
    """
    ensure_table(rows.sparkSession, lake, table)
    with hold_lease(lake, table.name) as lease:
        shaped = shape_rows(rows, table)
        lease.verify()
        (
            shaped.write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", _condition(where))
            .save(table.path(lake))
        )


def append_rows(rows: DataFrame, lake: str, table: Table) -> None:
    """Appends rows, in one commit. The caller knows that the table lacks them, and that nobody else brings them."""
    ensure_table(rows.sparkSession, lake, table)
    with hold_lease(lake, table.name) as lease:
        shaped = shape_rows(rows, table)
        lease.verify()
        shaped.write.format("delta").mode("append").save(table.path(lake))


def delete_rows(spark: SparkSession, lake: str, table: Table, condition: str) -> None:
    """Deletes the rows for which an SQL condition holds, in one commit; with none where there is no such row."""
    ensure_table(spark, lake, table)
    with hold_lease(lake, table.name):
        DeltaTable.forPath(spark, table.path(lake)).delete(condition)


def merge_slice(rows: DataFrame, lake: str, table: Table, slice_key: str | None) -> None:
    """Makes the slice, or the whole table, consist of these rows, in one commit; with none where it does so already.

    A merge that changes no row would rewrite files all the same, and some readers of the change feed (delta-rs) take
    that for deletes and inserts. The caller holds the table's lease.
    """
    shaped = shape_rows(rows, table)
    where = {} if slice_key is None else {"slice": slice_key}
    stored = shape_rows(read_table(rows.sparkSession, lake, table, **where), table)
    if shaped.exceptAll(stored).isEmpty() and stored.exceptAll(shaped).isEmpty():
        return
    same = " AND ".join(f"t.{name} = s.{name}" for name in table.key)
    ours = "true" if slice_key is None else f"t.slice = '{slice_key}'"
    changed = " OR ".join(f"NOT (t.{name} <=> s.{name})" for name in table.column_names if name not in table.key)
    target = DeltaTable.forPath(rows.sparkSession, table.path(lake)).alias("t")
    (
        target.merge(shaped.alias("s"), f"{ours} AND {same}")
        .whenMatchedUpdateAll(changed)
        .whenNotMatchedInsertAll()
        .whenNotMatchedBySourceDelete(ours)
        .execute()
    )


def shape_rows(rows: DataFrame, table: Table) -> DataFrame:
    """The table's columns, in its order and types."""
    return rows.select(*(F.col(column.name).cast(column.type) for column in table.columns))


def read_version(lake: str, table: Table) -> int:
    return StoredTable(table.path(lake)).version()


def count_stored(lake: str, table: Table) -> int:
    """Rows of the whole table as its log tells them, deleted ones of files that are kept included: without reading any."""
    counts = pa.table(StoredTable(table.path(lake)).get_add_actions(flatten=True))["num_records"]
    return sum(counts.to_pylist())


def _condition(where: Mapping[str, str | int | tuple[str, ...]]) -> str:
    parts = []
    for name, value in where.items():
        values = value if isinstance(value, tuple) else (value,)
        if any("'" in str(v) or "\\" in str(v) for v in values):
            raise ValueError(f"{name}={value!r} is no plain key")
        parts.append(f"{name} IN ({', '.join(repr(v) for v in values)})")
    return " AND ".join(parts)
