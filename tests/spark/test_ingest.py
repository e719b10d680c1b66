"""Reading a slice: the real WET file, and what is wrong with others."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.spark.ingest import choose_pages
from persona_hub.spark.job import Job
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.counts import fold_counts
from persona_hub.tables.model import Table
from persona_hub.tables.silver import REMOVALS

WET = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
SLICE = "CC-MAIN-2020-50/00001"
# Of the 318 pages of the file, by the page rules at their defaults.
KEPT, REMOVED = 263, {"navigation": 39, "too_short": 15, "empty": 1}


@pytest.fixture
def ingest(load_job_file: Callable[[str], ModuleType]) -> Callable[[Job], None]:
    return load_job_file("ingest_pages").ingest_pages


@pytest.fixture
def list_files(make_settings) -> Callable[..., None]:
    """Enters files of a folder into the calendar, all of them in one slice."""

    def add(folder: Path, *names: str) -> None:
        listing = SnapshotListing("CC-MAIN-2020-50", datetime(2020, 12, 5, tzinfo=UTC), names, str(folder))
        add_snapshot(make_settings().calendar, listing, len(names), datetime(2026, 11, 1, tzinfo=UTC))

    return add


def read(job: Job, table: Table) -> list[dict[str, Any]]:
    path = table.path(job.lake)
    return DeltaTable(path).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(path) else []


def read_count(job: Job) -> dict[str, Any]:
    [row] = fold_counts(job.lake)
    return row


def test_the_real_file(make_job, ingest, list_files, shared_data: Path) -> None:
    list_files(shared_data, WET)
    job = make_job(SLICE)
    ingest(job)
    count, pages, removals = read_count(job), read(job, PAGES), read(job, REMOVALS)
    assert count["events"] == {"files_read": 1, "digests_verified": 318, "records_conversion": 318, "records_warcinfo": 1}
    assert (count["rows_in"], count["rows_out"], count["removed"]) == (318, KEPT, REMOVED)
    assert Counter(row["rule"] for row in removals) == REMOVED
    ids = [row["page_id"] for row in pages] + [row["row_id"] for row in removals]
    assert sorted(ids) == [f"{SLICE}/000000/{record:07d}" for record in range(1, 319)]
    assert all(row["text"] is None and row["detail"].startswith("http") for row in removals)
    assert all(row["digest_ok"] and row["slice"] == SLICE and row["file_path"] == WET for row in pages)
    stored = (shared_data / WET).read_bytes()
    for row in pages:
        member = gzip.decompress(stored[row["record_offset"] : row["record_offset"] + row["record_length"]])
        assert f"WARC-Target-URI: {row['url']}\r\n".encode() in member

    before = sorted(pages, key=lambda row: row["page_id"])
    ingest(make_job(SLICE, run_id="run 2"))
    assert sorted(read(job, PAGES), key=lambda row: row["page_id"]) == before


def test_a_truncated_file_gives_what_came_before(make_job, ingest, list_files, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.warc.wet.gz").write_bytes((shared_data / WET).read_bytes()[:500_000])
    list_files(tmp_path, "cut.warc.wet.gz")
    job = make_job(SLICE)
    ingest(job)
    count = read_count(job)
    assert count["rows_in"] == 142 == count["rows_out"] + sum(count["removed"].values())
    assert count["events"] == {
        "files_read": 1, "files_cut": 1, "digests_verified": 142, "records_conversion": 142, "records_warcinfo": 1,
    }  # fmt: skip


def test_a_file_that_is_no_warc_is_named_and_nothing_is_touched(
    make_job, ingest, list_files, shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "good.warc.wet.gz").write_bytes((shared_data / WET).read_bytes())
    (tmp_path / "bad.warc.wet.gz").write_bytes(gzip.compress(b"<html>Please log in</html>"))
    list_files(tmp_path, "good.warc.wet.gz", "bad.warc.wet.gz")
    job = make_job(SLICE)
    with pytest.raises(Exception, match=r"UnreadableFile: bad\.warc\.wet\.gz begins with .*Wanted: a WARC file"):
        ingest(job)
    assert (read(job, PAGES), read(job, REMOVALS), fold_counts(job.lake)) == ([], [], [])


def test_a_missing_file_is_named(make_job, ingest, list_files, tmp_path: Path) -> None:
    list_files(tmp_path, "gone.warc.wet.gz")
    with pytest.raises(Exception, match=r"SourceError: No file 'gone\.warc\.wet\.gz' can be read in"):
        ingest(make_job(SLICE))


def test_invalid_utf8_and_markers_are_counted(make_job, ingest, list_files, tmp_path: Path) -> None:
    body = b"A baker \xff\xfe sells bread to all who come by in the morning. " * 8 + b"\x00"
    head = (
        "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.example/\r\nWARC-Date: 2026-10-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:1>\r\nWARC-Block-Digest: sha1:{'A' * 32}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    (tmp_path / "a.warc.wet.gz").write_bytes(gzip.compress(head.encode() + body + b"\r\n\r\n"))
    list_files(tmp_path, "a.warc.wet.gz")
    job = make_job(SLICE)
    ingest(job)
    [page] = read(job, PAGES)
    assert page["text"] == ("A baker \ufffd\ufffd sells bread to all who come by in the morning. " * 8).strip()
    assert page["digest_ok"] is False
    assert read_count(job)["events"] == {
        "files_read": 1, "invalid_utf8": 1, "digests_failed": 1, "records_conversion": 1,
    }  # fmt: skip


def test_pages_over_the_limit_are_chosen_by_their_ids_alone(spark: SparkSession) -> None:
    rows = [(f"{SLICE}/000000/{record:07d}", "short" if record % 5 == 0 else None) for record in range(200)]

    def choose(order: list[tuple[str, str | None]], partitions: int, limit: int | None) -> dict[str, str | None]:
        pages = spark.createDataFrame(order, "page_id STRING, rule STRING").repartition(partitions)
        return {row["page_id"]: row["rule"] for row in choose_pages(pages, limit).collect()}

    chosen = choose(rows, 1, 50)
    assert Counter(chosen.values()) == {"short": 40, None: 50, "over_budget": 110}
    assert {row: rule for row, rule in chosen.items() if rule == "short"} == {row: rule for row, rule in rows if rule}
    assert choose(rows[::-1], 7, 50) == chosen
    kept = {row for row, rule in chosen.items() if rule is None}
    assert kept > {row for row, rule in choose(rows, 3, 20).items() if rule is None}  # fewer are a part of more
    assert choose(rows, 2, 1_000) == choose(rows, 2, None) == dict(rows)
    assert json.dumps(sorted(kept)) != json.dumps([row for row, rule in rows if not rule][:50])  # not simply the first
