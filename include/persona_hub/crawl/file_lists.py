"""The file lists of all snapshots: the Delta table `bronze.crawl_files`, written and read without Spark.

A snapshot's list is one commit, and one Parquet file with small row groups: a slice's rows are found by the statistics
of file and row group, so planning costs the same whether the table holds one snapshot or all. Its writers hold the
crawl calendar's lock (growth.py), and what the calendar counts is what is true: rows of a snapshot that it does not
know are left over from a process that died in between, and the next list of that name takes their place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, WriterProperties, write_deltalake

from persona_hub.core.keys import SliceKey
from persona_hub.tables.bronze import CRAWL_FILES
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.small import arrow_schema

ROW_GROUP = 4_096
"""Rows: a slice's are found in one or two of them, some 0.5 MB of paths each."""


def hash_list(paths: Sequence[str]) -> str:
    """SHA-256 of a list, one path a line: what `zcat wet.paths.gz | sha256sum` says of Common Crawl's."""
    return hashlib.sha256("".join(f"{path}\n" for path in paths).encode("utf-8")).hexdigest()


def write_list(lake: str, snapshot_id: str, paths: Sequence[str], files_per_slice: int) -> None:
    """Puts a snapshot's list into the table, in one commit, in the place of what is there under its name."""
    rows = pa.table(
        {
            "snapshot": pa.repeat(snapshot_id, len(paths)),
            "ordinal": range(len(paths)),
            "path": list(paths),
            "slice": [str(SliceKey(snapshot_id, place // files_per_slice + 1)) for place in range(len(paths))],
        },
        schema=arrow_schema(CRAWL_FILES),
    )
    with hold_lease(lake, CRAWL_FILES.name):
        is_there = DeltaTable.is_deltatable(CRAWL_FILES.path(lake))
        write_deltalake(
            CRAWL_FILES.path(lake),
            rows,
            mode="overwrite" if is_there else "append",
            predicate=f"snapshot = '{snapshot_id}'" if is_there else None,
            name=CRAWL_FILES.name,
            description=CRAWL_FILES.doc,
            writer_properties=WriterProperties(max_row_group_size=ROW_GROUP, compression="ZSTD"),
        )


def count_files(lake: str) -> dict[str, int]:
    """Rows of each snapshot, from the table's log alone."""
    counts: dict[str, int] = {}
    for file in _list_files(lake):
        counts[file["min.snapshot"]] = counts.get(file["min.snapshot"], 0) + file["num_records"]
    return counts


def count_first_slice(lake: str, snapshot_id: str) -> int:
    """Files of a snapshot's first slice; 0 where the table does not have the snapshot."""
    first, files = str(SliceKey(snapshot_id, 1)), 0
    for file in _list_files(lake):
        if file["min.snapshot"] <= snapshot_id <= file["max.snapshot"] and file["min.ordinal"] == 0:
            place = f"{CRAWL_FILES.path(lake)}/{file['path']}"
            files += pq.read_table(place, columns=["slice"], filters=[("slice", "=", first)], partitioning=None).num_rows
    return files


def read_list(lake: str, snapshot_id: str, start: int, stop: int) -> tuple[tuple[int, str], ...]:
    """Ordinals and paths of a part of a snapshot's list, by rising ordinal; those that are not there are left out.

    Args:
        lake: root of the tables.
        snapshot_id: as the calendar names it.
        start: first ordinal.
        stop: the one after the last.
    """
    filters = [("snapshot", "=", snapshot_id), ("ordinal", ">=", start), ("ordinal", "<", stop)]
    found: list[tuple[int, str]] = []
    for file in _list_files(lake):
        same = file["min.snapshot"] <= snapshot_id <= file["max.snapshot"]
        if same and file["min.ordinal"] < stop and file["max.ordinal"] >= start:
            place = f"{CRAWL_FILES.path(lake)}/{file['path']}"
            part = pq.read_table(place, columns=["ordinal", "path"], filters=filters, partitioning=None)
            found += zip(part["ordinal"].to_pylist(), part["path"].to_pylist(), strict=True)
    return tuple(sorted(found))


def _list_files(lake: str) -> list[dict[str, Any]]:
    """The table's Parquet files with their statistics."""
    if not DeltaTable.is_deltatable(CRAWL_FILES.path(lake)):
        return []
    files: list[dict[str, Any]] = pa.table(
        DeltaTable(CRAWL_FILES.path(lake)).get_add_actions(flatten=True)
    ).to_pylist()
    return files
