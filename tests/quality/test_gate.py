"""The gate over real frames: what passes, what fails and how it is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from persona_hub.core.keys import text_hash
from persona_hub.errors import GateFailed
from persona_hub.quality.gate import SliceFigures, check_slice, measure_slice
from persona_hub.tables.gold import PERSONAS

SLICE = "S/00001"
LOOSE = PERSONAS.schema.replace(" NOT NULL", "")


def make_row(record: int, **changes: Any) -> dict[str, Any]:
    page, persona = f"{SLICE}/000000/{record:07d}", f"A baker of {record} loaves"
    return {
        "slice": SLICE, "persona_id": f"{page}/p0", "persona": persona, "page_id": page, "url": "http://a.example/",
        "parent_id": None, "relation": None, "hop": 0, "publication": 1, "text_hash": text_hash(persona),
        "completion_key": "0" * 64, "prompt_id": "p", "prompt_hash": "1" * 32, "model": "m",
    } | changes  # fmt: skip


def make_frame(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    return spark.createDataFrame([tuple(row.values()) for row in rows], LOOSE)


def check(make_settings, rows: DataFrame, figures: SliceFigures, **changes: object) -> Path:
    return check_slice(rows, figures, PERSONAS, SLICE, make_settings(**changes))


def test_good_rows_pass_and_are_documented(spark: SparkSession, make_settings) -> None:
    rows = make_frame(spark, *(make_row(record) for record in range(5)))
    figures = measure_slice(rows, answers=100)
    assert figures == SliceFigures(100, 95, 5, 5)
    page = check(make_settings, rows, figures)
    assert page == Path(make_settings().reports) / SLICE / "gold.personas" / "index.html"
    assert "gold.personas rows" in page.read_text()
    assert len(list(page.parent.rglob("validations/**/*.html"))) == 2  # of the rows, and of the slice


def test_each_fault_is_named_with_what_was_seen(spark: SparkSession, make_settings) -> None:
    rows = make_frame(
        spark,
        make_row(0),
        make_row(1, persona=None),
        make_row(2, persona="A baker" * 200),
        make_row(3, persona_id=make_row(0)["persona_id"]),
        make_row(4, text_hash="short"),
        make_row(5, page_id="no id"),
    )
    with pytest.raises(GateFailed) as raised:
        check(make_settings, rows, SliceFigures(100, 0, 6, 6))
    told = str(raised.value)
    for kind, column, seen in (
        ("expect_column_values_to_not_be_null", "persona", "1 of 6 rows"),
        ("expect_column_value_lengths_to_be_between", "persona", "1 of 6 rows, such as ['A bakerA baker"),
        ("expect_column_values_to_be_unique", "persona_id", "2 of 6 rows, such as ['S/00001/000000/0000000/p0'"),
        ("expect_column_value_lengths_to_be_between", "text_hash", "1 of 6 rows, such as ['short']"),
    ):
        fault = next((part for part in told.split("; ") if kind in part and f"'{column}'" in part), told)
        assert seen in fault
    assert told.count(": saw ") == 4
    assert "The gate of gold.personas for S/00001 failed: " in told
    page = Path(told.split("Data Docs at ")[1].split(";")[0])
    assert page.is_file()
    assert "nothing was published" in told


def test_copies_count_before_they_are_taken_out(spark: SparkSession) -> None:
    rows = make_frame(spark, *(make_row(record, text_hash=text_hash("the same")) for record in range(6)), make_row(7))
    assert measure_slice(rows, 10) == SliceFigures(answers=10, refused=3, texts=7, distinct_texts=2)


@pytest.mark.parametrize(
    ("figures", "column", "saw"),
    [
        (SliceFigures(100, 96, 4, 4), "rejected_share", 0.96),
        (SliceFigures(100, 0, 100, 49), "distinct_share", 0.49),
        (SliceFigures(100, 0, 100, 100, 0.985), "dedup_recall", 0.985),
        (SliceFigures(1, 0, 1, 1, 0.985), "dedup_recall", 0.985),  # however few answers
    ],
)
def test_a_slice_that_is_bad_as_a_whole(
    spark: SparkSession, make_settings, figures: SliceFigures, column: str, saw: float
) -> None:
    rows = make_frame(spark, make_row(0))
    with pytest.raises(GateFailed) as raised:
        check(make_settings, rows, figures)
    assert f"'column': '{column}'" in str(raised.value)
    assert f"saw {saw}" in str(raised.value)
    loose = {"quality__max_rejected_share": 0.97, "quality__min_distinct_share": 0.4, "dedup__min_recall": 0.98}
    assert check(make_settings, rows, figures, **loose).is_file()


def test_few_answers_are_told_and_stop_nothing(
    spark: SparkSession, make_settings, caplog: pytest.LogCaptureFixture
) -> None:
    none = make_frame(spark)
    assert measure_slice(none, 0) == SliceFigures(0, 0, 0, 0)
    with caplog.at_level(logging.WARNING, "persona_hub"):
        check(make_settings, none, SliceFigures(0, 0, 0, 0))
        assert caplog.messages == []
        check(make_settings, none, SliceFigures(19, 19, 0, 0))
    [told] = caplog.messages
    assert told.startswith("warning: expect_column_max_to_be_between")
    with pytest.raises(GateFailed, match="rejected_share"):
        check(make_settings, none, SliceFigures(20, 20, 0, 0))
