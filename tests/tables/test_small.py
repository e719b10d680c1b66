"""Small tables by delta-rs: merged by key, also from several processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from persona_hub.errors import UnknownSlice
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.small import merge_rows, read_rows, replace_slice

WRITE = """
import sys
from datetime import UTC, datetime
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.small import merge_rows
for number in range(1, 6):
    row = {"table_name": sys.argv[2], "publication": number, "slice": "S/00001", "run_id": "r", "table_version": 1,
           "published_at": datetime(2026, 11, 1, tzinfo=UTC), "rows": number, "manifest": "{}"}
    merge_rows(sys.argv[1], PUBLICATIONS, [row])
"""


def publication(number: int, table: str = "gold.personas", **changes: Any) -> dict[str, Any]:
    return {
        "table_name": table,
        "publication": number,
        "slice": "S/00001",
        "run_id": "r",
        "published_at": datetime(2026, 11, 1, tzinfo=UTC),
        "table_version": 1,
        "rows": 5,
        "manifest": '{"é": "水"}',
    } | changes


def test_merge_inserts_and_replaces_by_key(tmp_path: Path) -> None:
    lake = str(tmp_path)
    assert read_rows(lake, PUBLICATIONS) == []
    merge_rows(lake, PUBLICATIONS, [])
    assert not DeltaTable.is_deltatable(PUBLICATIONS.path(lake))
    merge_rows(lake, PUBLICATIONS, [publication(1), publication(2)])
    merge_rows(lake, PUBLICATIONS, [publication(2, rows=9), publication(1, "gold.task_math")])
    rows = sorted(read_rows(lake, PUBLICATIONS), key=lambda row: (row["table_name"], row["publication"]))
    assert rows == [publication(1), publication(2, rows=9), publication(1, "gold.task_math")]


def test_a_slice_consists_of_the_rows_that_replace_it(tmp_path: Path) -> None:
    lake = str(tmp_path)

    def read() -> list[tuple[str, int, int]]:
        rows = read_rows(lake, PUBLICATIONS)
        return sorted((row["slice"], row["publication"], row["rows"]) for row in rows)

    replace_slice(lake, PUBLICATIONS, [], "S/00001")
    assert not DeltaTable.is_deltatable(PUBLICATIONS.path(lake))
    replace_slice(lake, PUBLICATIONS, [publication(1), publication(2)], "S/00001")
    replace_slice(lake, PUBLICATIONS, [publication(7, slice="S/00002")], "S/00002")
    replace_slice(lake, PUBLICATIONS, [publication(2, rows=9), publication(3)], "S/00001")
    assert read() == [("S/00001", 2, 9), ("S/00001", 3, 5), ("S/00002", 7, 5)]
    replace_slice(lake, PUBLICATIONS, [], "S/00001")
    assert read() == [("S/00002", 7, 5)]
    version = DeltaTable(PUBLICATIONS.path(lake)).version()
    replace_slice(lake, PUBLICATIONS, [], "S/00001")
    assert DeltaTable(PUBLICATIONS.path(lake)).version() == version
    with pytest.raises(UnknownSlice, match="is no slice key"):
        replace_slice(lake, PUBLICATIONS, [publication(1)], "S/00001' OR '1' = '1")


def test_reads_what_is_asked_for(tmp_path: Path) -> None:
    lake = str(tmp_path)
    merge_rows(lake, PUBLICATIONS, [publication(1), publication(1, "gold.task_math")])
    version = DeltaTable(PUBLICATIONS.path(lake)).version()
    merge_rows(lake, PUBLICATIONS, [publication(2)])
    ours = [("table_name", "=", "gold.personas")]
    assert [row["publication"] for row in read_rows(lake, PUBLICATIONS, filters=ours, version=version)] == [1]
    assert sorted(row["publication"] for row in read_rows(lake, PUBLICATIONS, filters=ours)) == [1, 2]


def test_constraints_are_the_tables(tmp_path: Path) -> None:
    lake = str(tmp_path)
    with pytest.raises(Exception, match="number_from_one|publication"):
        merge_rows(lake, PUBLICATIONS, [publication(0)])
    with pytest.raises(Exception, match=r"(?i)null"):
        merge_rows(lake, PUBLICATIONS, [publication(1, run_id=None)])
    assert read_rows(lake, PUBLICATIONS) == []


def test_a_clustered_table_is_left_to_spark(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gold.personas is clustered"):
        merge_rows(str(tmp_path), PERSONAS, [{"slice": "S/00001"}])


def test_processes_that_merge_at_once_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen([*command, name], env=env) for name in ("gold.a", "gold.b", "gold.c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    seen = sorted((row["table_name"], row["publication"]) for row in read_rows(str(tmp_path), PUBLICATIONS))
    assert seen == [(name, number) for name in ("gold.a", "gold.b", "gold.c") for number in range(1, 6)]
