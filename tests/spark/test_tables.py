"""Delta tables as they are described: real commits, real constraints, a real change feed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from persona_hub.core.keys import text_hash
from persona_hub.errors import TableMismatch
from persona_hub.spark.tables import append_rows, ensure_table, merge_slice, read_table, read_version, replace_rows
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.model import Column, Table
from persona_hub.tables.silver import REMOVALS

ONE, TWO = "S/00001", "S/00002"
NOTES = Table(
    "silver.notes",
    "Notes.",
    (Column("slice", "STRING", "Slice"), Column("id", "STRING", "Id"), Column("size", "BIGINT", "Size", nullable=True)),
    key=("id",),
    cluster=("slice", "id"),
    checks={"size_right": "size IS NULL OR size >= 0"},
)


@pytest.fixture
def make_notes(spark: SparkSession) -> Callable[..., DataFrame]:
    def make(*rows: tuple[str, str, int | None]) -> DataFrame:
        return spark.createDataFrame(list(rows), "slice STRING, id STRING, size INT")

    return make


def read(lake: str) -> list[tuple[Any, ...]]:
    rows = DeltaTable(NOTES.path(lake)).to_pyarrow_table().to_pylist()
    return sorted((row["slice"], row["id"], row["size"]) for row in rows)


def make_persona(record: int, slice_key: str = ONE, **changes: Any) -> dict[str, Any]:
    page, persona = f"{slice_key}/000000/{record:07d}", f"A baker of {record} loaves"
    return {
        "slice": slice_key, "persona_id": f"{page}/p0", "persona": persona, "page_id": page, "url": "http://a.example/",
        "parent_id": None, "relation": None, "hop": 0, "publication": 1, "text_hash": text_hash(persona),
        "completion_key": "0" * 64, "prompt_id": "p", "prompt_hash": "1" * 32, "model": "m",
    } | changes  # fmt: skip


def read_feed(spark: SparkSession, lake: str, since: int) -> list[tuple[str, str]]:
    feed = spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", since)
    return sorted((row["_change_type"], row["persona_id"]) for row in feed.load(PERSONAS.path(lake)).collect())


def test_gold_personas_are_stored_as_described(spark: SparkSession, tmp_path: Path) -> None:
    lake = str(tmp_path)
    ensure_table(spark, lake, PERSONAS)
    stored = DeltaTable(PERSONAS.path(lake))
    assert [(field.name, field.nullable) for field in stored.schema().fields] == [
        (column.name, column.nullable) for column in PERSONAS.columns
    ]
    assert stored.metadata().description == PERSONAS.doc
    assert PERSONAS.properties.items() <= stored.metadata().configuration.items()
    assert stored.version() == 0
    ensure_table(spark, lake, PERSONAS)
    assert stored.history()[0]["operation"] == "CREATE TABLE"
    assert DeltaTable(PERSONAS.path(lake)).version() == 0
    detail = spark.sql(f"DESCRIBE DETAIL delta.`{PERSONAS.path(lake)}`").first()
    assert detail and detail["clusteringColumns"] == ["slice", "persona_id"]


def test_what_must_never_be_stored_is_not(spark: SparkSession, tmp_path: Path) -> None:
    lake = str(tmp_path)
    ensure_table(spark, lake, PERSONAS)
    for wrong, told in (
        ({"hop": 7}, "hop_range"),
        ({"parent_id": "x"}, "hop_range"),
        ({"publication": 0}, "publication_from_one"),
        ({"slice": TWO}, "id_in_slice"),
        ({"persona": None}, "persona"),
    ):
        rows = spark.createDataFrame([make_persona(1) | wrong], PERSONAS.schema.replace(" NOT NULL", ""))
        with pytest.raises(Exception, match=told):
            merge_slice(rows, lake, PERSONAS, ONE)
    assert read_version(lake, PERSONAS) == 0


def test_merge_touches_what_changed_and_nothing_else(spark: SparkSession, tmp_path: Path) -> None:
    lake = str(tmp_path)
    ensure_table(spark, lake, PERSONAS)

    def merge(slice_key: str, *rows: dict[str, Any]) -> list[tuple[str, str]]:
        since = read_version(lake, PERSONAS) + 1
        merge_slice(spark.createDataFrame(list(rows), PERSONAS.schema), lake, PERSONAS, slice_key)
        return read_feed(spark, lake, since) if read_version(lake, PERSONAS) >= since else []

    one, two, other = make_persona(1), make_persona(2), make_persona(1, TWO)
    assert [kind for kind, _ in merge(ONE, one, two)] == ["insert", "insert"]
    assert merge(TWO, other) == [("insert", other["persona_id"])]
    before = read_table(spark, lake, PERSONAS).orderBy("persona_id").collect()
    version = read_version(lake, PERSONAS)
    assert merge(ONE, two, one) == []  # a repeat is nothing to those who follow the feed: not even a commit
    assert read_version(lake, PERSONAS) == version
    assert read_table(spark, lake, PERSONAS).orderBy("persona_id").collect() == before

    changed, three = one | {"url": "http://b.example/"}, make_persona(3)
    assert merge(ONE, changed, three) == [
        ("delete", two["persona_id"]),
        ("insert", three["persona_id"]),
        ("update_postimage", one["persona_id"]),
        ("update_preimage", one["persona_id"]),
    ]
    stored = {row["persona_id"]: row.asDict() for row in read_table(spark, lake, PERSONAS).collect()}
    assert stored == {row["persona_id"]: row for row in (changed, three, other)}


def test_a_table_with_other_columns_is_left_alone(
    spark: SparkSession, make_notes: Callable[..., DataFrame], tmp_path: Path
) -> None:
    lake = str(tmp_path)
    older = Table(NOTES.name, NOTES.doc, (*NOTES.columns[:2], Column("weight", "BIGINT", "Weight", True)), key=("id",))
    ensure_table(spark, lake, older)
    rows = make_notes((ONE, "a", 1))
    for touch in (
        lambda: read_table(spark, lake, NOTES),
        lambda: replace_rows(rows, lake, NOTES, slice=ONE),
        lambda: append_rows(rows, lake, NOTES),
    ):
        with pytest.raises(TableMismatch) as raised:
            touch()
        assert "has columns ['size', 'weight'] more or less. Wanted: slice, id, size. To do: migrate" in str(raised.value)
    assert DeltaTable(NOTES.path(lake)).version() == 0


def test_replace_rows_replaces_exactly_its_slice(make_notes: Callable[..., DataFrame], tmp_path: Path) -> None:
    lake = str(tmp_path)
    replace_rows(make_notes((ONE, "a", 1), (ONE, "b", None)), lake, NOTES, slice=ONE)
    replace_rows(make_notes((TWO, "c", 3)), lake, NOTES, slice=TWO)
    again = make_notes((ONE, "b", 5))
    for _ in range(2):
        replace_rows(again, lake, NOTES, slice=ONE)
        assert read(lake) == [(ONE, "b", 5), (TWO, "c", 3)]
    with pytest.raises(Exception, match="DELTA_REPLACE_WHERE_MISMATCH"):  # a row that the next repeat would not replace
        replace_rows(make_notes((TWO, "d", 1)), lake, NOTES, slice=ONE)
    with pytest.raises(ValueError, match="is no plain key"):
        replace_rows(again, lake, NOTES, slice="x' OR '1' = '1")
    replace_rows(make_notes(), lake, NOTES, slice=ONE)
    assert read(lake) == [(TWO, "c", 3)]


def test_append_rows_leaves_what_is_there(make_notes: Callable[..., DataFrame], tmp_path: Path) -> None:
    lake = str(tmp_path)
    append_rows(make_notes((ONE, "a", 1)), lake, NOTES)
    append_rows(make_notes((ONE, "b", 2), (TWO, "c", None)), lake, NOTES)
    assert read(lake) == [(ONE, "a", 1), (ONE, "b", 2), (TWO, "c", None)]


def test_a_frame_stays_at_the_version_it_was_read_at(
    spark: SparkSession, make_notes: Callable[..., DataFrame], tmp_path: Path
) -> None:
    lake = str(tmp_path)
    frame = read_table(spark, lake, NOTES, slice=ONE)
    replace_rows(make_notes((ONE, "a", 1)), lake, NOTES, slice=ONE)
    assert frame.count() == 0
    assert read_table(spark, lake, NOTES, slice=ONE).count() == 1
    removals = read_table(spark, lake, REMOVALS, slice=ONE, data_type="")  # made empty where there was none
    assert (removals.columns, removals.count()) == (REMOVALS.column_names, 0)
