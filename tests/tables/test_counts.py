"""The funnel's rows: written as files, folded once, never unexplained."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from persona_hub.tables.counts import (
    StageCount,
    find_last_count,
    find_last_end,
    fold_counts,
    format_funnel,
    latest_counts,
    write_count,
)
from persona_hub.tables.ops import STAGE_COUNTS
from persona_hub.tables.small import merge_rows, read_rows

START = datetime(2026, 11, 1, tzinfo=UTC)
SLICE = "S/00001"
INGEST = StageCount(
    SLICE, "ingest_pages", "", "run 1", 1, START, 2.5, 10, 7, {"too_short": 2, "empty": 1}, {"files_read": 1}
)
EXTRACT = StageCount(
    SLICE, "extract", "", "run 1", 1, START + timedelta(minutes=1), 9.0, 7, 7,
    calls=5, from_ledger=2, prompt_tokens=50, completion_tokens=20,
)  # fmt: skip


def to_row(count: StageCount) -> dict[str, Any]:
    return asdict(count) | {"rows_removed": count.rows_removed}


def sorted_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["started_at"])


def test_fold_brings_every_count_once(tmp_path: Path) -> None:
    lake = str(tmp_path)
    assert fold_counts(lake) == []
    write_count(lake, INGEST)
    write_count(lake, EXTRACT)
    assert sorted_rows(fold_counts(lake)) == [to_row(INGEST), to_row(EXTRACT)]
    version = DeltaTable(STAGE_COUNTS.path(lake)).version()
    assert sorted_rows(fold_counts(lake)) == [to_row(INGEST), to_row(EXTRACT)]
    assert DeltaTable(STAGE_COUNTS.path(lake)).version() == version  # nothing waits: nothing is committed
    assert list((tmp_path / "ops" / "_counts").iterdir()) == []


def test_a_fold_killed_before_it_cleared_is_repeated_without_a_double(tmp_path: Path) -> None:
    lake, folder = str(tmp_path), tmp_path / "ops" / "_counts"
    write_count(lake, INGEST)
    shutil.copytree(folder, tmp_path / "kept")
    fold_counts(lake)
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)  # as if the files had never been removed
    assert fold_counts(lake) == [to_row(INGEST)]


def test_the_newer_of_two_counts_of_one_try_stays(tmp_path: Path) -> None:
    later = replace(INGEST, started_at=START + timedelta(hours=1), seconds=1.0)
    for count in (later, INGEST):
        write_count(str(tmp_path), count)
    assert fold_counts(str(tmp_path)) == [to_row(later)]


def test_a_count_half_written_is_not_seen(tmp_path: Path) -> None:
    write_count(str(tmp_path), INGEST)
    (tmp_path / "ops" / "_counts" / "x.part").write_text('{"slice"')
    assert fold_counts(str(tmp_path)) == [to_row(INGEST)]


def test_unexplained_rows_are_refused_before_they_are_written() -> None:
    with pytest.raises(ValueError, match=r"stage ingest_pages of S/00001 cannot explain its rows: 11 in, 7 out, removed"):
        replace(INGEST, rows_in=11)


def test_unexplained_rows_are_refused_by_the_table(tmp_path: Path) -> None:
    lake = str(tmp_path)
    merge_rows(lake, STAGE_COUNTS, [to_row(INGEST)])
    for wrong in ({"rows_in": 11}, {"rows_out": -1, "rows_in": 2}):
        with pytest.raises(Exception, match="every_row_explained|no_negative|rows_in|rows_out"):
            merge_rows(lake, STAGE_COUNTS, [to_row(INGEST) | {"stage": "other"} | wrong])
    assert read_rows(lake, STAGE_COUNTS) == [to_row(INGEST)]


def test_latest_counts_stand_in_the_order_in_which_stages_ran() -> None:
    again = replace(INGEST, run_id="run 2", started_at=START + timedelta(hours=1))
    other = replace(INGEST, slice="S/00002")
    math = replace(EXTRACT, data_type="math", started_at=START + timedelta(minutes=2))
    rows = [to_row(count) for count in (math, again, other, EXTRACT, INGEST)]
    seen = [(row["stage"], row["data_type"], row["run_id"]) for row in latest_counts(rows, SLICE)]
    assert seen == [("extract", "", "run 1"), ("extract", "math", "run 1"), ("ingest_pages", "", "run 2")]


def test_funnel_as_text() -> None:
    priced = replace(EXTRACT, stage="priced", money=0.25, started_at=START + timedelta(hours=2))
    lines = format_funnel([to_row(count) for count in (INGEST, EXTRACT, priced)], SLICE)
    assert [line.split() for line in lines[1:]] == [
        ["ingest_pages", "10", "7", "2.5", "0", "0", "0.0000", "too_short", "2,", "empty", "1"],
        ["extract", "7", "7", "9.0", "5", "70", "unpriced", "-"],
        ["priced", "7", "7", "9.0", "5", "70", "0.2500", "-"],
    ]


def test_the_last_count_is_that_which_ended_last_folded_or_not(tmp_path: Path) -> None:
    lake = str(tmp_path)
    assert (find_last_count(lake, SLICE, "ingest_pages", ""), find_last_end(lake, SLICE, "ingest_pages", "")) == (None, None)
    longer = replace(INGEST, run_id="run 2", seconds=7_200.0, events={"recall_pairs": 40, "recall_found": 39})
    later = replace(INGEST, run_id="run 3", started_at=START + timedelta(hours=1), seconds=60.0)
    for count in (longer, EXTRACT, replace(INGEST, slice="S/00002", seconds=9e9), replace(INGEST, data_type="math", seconds=9e9)):
        write_count(lake, count)
    for _ in range(2):  # it waits as a file, then stands in the table, and a newer file beside it
        assert find_last_count(lake, SLICE, "ingest_pages", "") == to_row(longer)
        assert find_last_end(lake, SLICE, "ingest_pages", "") == START + timedelta(hours=2)
        fold_counts(lake)
        write_count(lake, later)
    last = replace(later, seconds=3_601.0)
    write_count(lake, last)
    assert find_last_count(lake, SLICE, "ingest_pages", "") == to_row(last)
