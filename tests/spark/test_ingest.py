"""Ingesting a slice: the real WET file, files that fail and are read by the next try, copies and budgets."""

from __future__ import annotations

import gzip
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from driver_process import find_family, read_command
from pyspark.sql import DataFrame, SparkSession

from local.mirror import PAGES as SAMPLE_PAGES
from local.mirror import read_sample_page
from persona_hub.core.page_judge import PageJudge
from persona_hub.crawl.calendar import SlicePlan
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.crawl.staging import FileFailure, FileReport, open_staging
from persona_hub.errors import SettingsError, SourceError, TableMismatch, UnreadableFile
from persona_hub.settings import load_settings
from persona_hub.spark.ingest import (
    check_failures,
    mark_copies,
    mark_domain_budget,
    mark_earlier_copies,
    mark_over_budget,
    read_results,
)
from persona_hub.spark.job import Job
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.counts import fold_counts
from persona_hub.tables.model import Table
from persona_hub.tables.ops import FAILED_FILES
from persona_hub.tables.silver import REMOVALS
from persona_hub_airflow.spark_conf import driver_conf

WET = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
SLICE = "CC-MAIN-2020-50/00001"
CHECKOUT = Path(__file__).resolve().parents[2]
EVENTS = {"files_read": 1, "digests_verified": 318, "records_conversion": 318, "records_warcinfo": 1}
A, B, C = "a.warc.wet", "b.warc.wet", "c.warc.wet"


@pytest.fixture
def ingest(load_job_file: Callable[[str], ModuleType]) -> Callable[[Job], None]:
    return load_job_file("ingest_pages").ingest_pages


@pytest.fixture
def list_files(make_settings) -> Callable[..., None]:
    """Enters files of a folder into the calendar."""

    def add(folder: Path, *names: str, per_slice: int | None = None) -> None:
        settings = make_settings()
        listing = SnapshotListing("CC-MAIN-2020-50", datetime(2020, 12, 5, tzinfo=UTC), names, str(folder))
        seen = datetime(2026, 11, 1, tzinfo=UTC)
        add_snapshot(settings.lake, settings.calendar, listing, per_slice or len(names), seen)

    return add


def read(job: Job, table: Table) -> list[dict[str, Any]]:
    path = table.path(job.lake)
    rows = DeltaTable(path).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(path) else []
    return sorted(rows, key=lambda row: tuple(row[name] for name in table.key))


def read_count(job: Job) -> dict[str, Any]:
    [row] = [row for row in fold_counts(job.lake) if (row["run_id"], row["slice"]) == (job.run_id, job.slice)]
    return row


def find_staged(job: Job) -> list[str]:
    return sorted(file.name for file in (Path(job.lake) / "_staging").rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Pages of the sample crawl that every rule lets pass, no two the same."""
    pages = [read_sample_page(file) for file in sorted(SAMPLE_PAGES.glob("*.txt"))]
    judge = PageJudge(load_settings({}).crawl, frozenset())
    verdicts = judge.judge([page.text for page in pages], [page.url for page in pages])
    return sorted({verdict.text for verdict in verdicts if not verdict.refusal})


def write_wet(file: Path, *pages: tuple[str, str]) -> None:
    """A WET file of (URL, text)."""
    parts = []
    for number, (url, text) in enumerate(pages):
        head = (
            f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-10-01T00:00:00Z\r\n"
            f"WARC-Record-ID: <urn:uuid:{number}>\r\nContent-Length: {len(text.encode())}\r\n\r\n"
        )
        parts.append(f"{head}{text}\r\n\r\n".encode())
    file.write_bytes(b"".join(parts))


def test_the_real_file(make_job, ingest, list_files, shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list_files(shared_data, WET)
    job = make_job(SLICE)
    ingest(job)
    count, pages, removals = read_count(job), read(job, PAGES), read(job, REMOVALS)
    assert count["events"] == EVENTS
    # How many each rule drops is for tests/core to say; here all of them are to come through.
    with (shared_data / WET).open("rb") as stream:
        crawled = list(read_pages(stream, WET, ReadReport()))
    judge = PageJudge(job.settings.crawl, frozenset())
    verdicts = judge.judge([page.text for page in crawled], [page.url for page in crawled])
    rules = Counter(verdict.refusal.rule if verdict.refusal else None for verdict in verdicts)
    assert (count["rows_in"], count["rows_out"]) == (318, rules.pop(None)) == (318, len(pages))
    assert Counter(row["rule"] for row in removals) == count["removed"] == rules
    assert len(rules) >= 3
    ids = [row["page_id"] for row in pages] + [row["row_id"] for row in removals]
    assert sorted(ids) == [f"{SLICE}/000000/{record:07d}" for record in range(1, 319)]
    assert all(row["text"] is None and row["detail"].startswith("http") for row in removals)
    assert all(row["digest_ok"] and row["slice"] == SLICE and row["file_path"] == WET for row in pages)
    stored = (shared_data / WET).read_bytes()
    for row in pages:
        member = gzip.decompress(stored[row["record_offset"] : row["record_offset"] + row["record_length"]])
        assert f"WARC-Target-URI: {row['url']}\r\n".encode() in member
    assert find_staged(job) == [] == read(job, FAILED_FILES)
    [line] = [text for text in caplog.messages if text.startswith("ingest_pages: 1 of 1 files, ")]
    assert line.split(", ")[2].startswith("1 MB (")

    again = make_job(SLICE, run_id="run 2")
    ingest(again)
    assert read(job, PAGES) == pages
    assert [(row["rule"], row["detail"]) for row in read(job, REMOVALS)] == [
        (row["rule"], row["detail"]) for row in removals
    ]
    assert read_count(again)["events"] == EVENTS


@pytest.mark.parametrize("table", [PAGES, REMOVALS], ids=lambda table: table.name)
def test_a_table_that_is_not_as_described_is_told_before_a_file_is_read(
    make_job, ingest, list_files, shared_data: Path, table: Table
) -> None:
    list_files(shared_data, WET)
    job = make_job(SLICE)
    write_deltalake(table.path(job.lake), pa.table({"slice": ["A/00001"], "older": [1]}))
    with pytest.raises(TableMismatch, match=f"Table {table.name} at .* has columns"):
        ingest(job)
    assert find_staged(job) == []


def test_a_truncated_file_gives_what_came_before(
    make_job, ingest, list_files, shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cut.warc.wet.gz").write_bytes((shared_data / WET).read_bytes()[:500_000])
    list_files(tmp_path, "cut.warc.wet.gz")
    job = make_job(SLICE)
    ingest(job)
    count = read_count(job)
    assert count["rows_in"] == 142 == count["rows_out"] + sum(count["removed"].values())
    assert {name: count["events"].get(name) for name in ("files_read", "files_cut", "digests_verified")} == {
        "files_read": 1, "files_cut": 1, "digests_verified": 142,
    }  # fmt: skip
    assert sum("the records that could be read are used" in text for text in caplog.messages) == 1


def test_invalid_utf8_and_markers_are_counted(make_job, ingest, list_files, texts: list[str], tmp_path: Path) -> None:
    body = b"A baker \xff\xfe sells bread.\n" + texts[0].encode() + b"\x00"
    head = (
        "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.example/\r\nWARC-Date: 2026-10-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:1>\r\nWARC-Block-Digest: sha1:{'A' * 32}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    (tmp_path / "a.warc.wet.gz").write_bytes(gzip.compress(head.encode() + body + b"\r\n\r\n"))
    list_files(tmp_path, "a.warc.wet.gz")
    job = make_job(SLICE)
    ingest(job)
    [page] = read(job, PAGES)
    assert page["text"] == f"A baker \ufffd\ufffd sells bread.\n{texts[0]}"
    assert (page["digest_ok"], page["domain"], page["language"]) == (False, "a.example", "en")
    assert read_count(job)["events"] == {
        "files_read": 1, "invalid_utf8": 1, "digests_failed": 1, "records_conversion": 1,
    }  # fmt: skip


def test_too_many_failed_files_end_the_task_and_the_next_try_reads_only_those(
    make_job, ingest, list_files, texts: list[str], tmp_path: Path
) -> None:
    write_wet(tmp_path / A, *((f"http://a{n}.example/", text) for n, text in enumerate(texts[:5])))
    (tmp_path / B).write_bytes(b"<html>Please log in</html>")
    list_files(tmp_path, A, B, C)
    first = make_job(SLICE)
    with pytest.raises(SourceError, match=r"2 of 3 files of .*/00001 cannot be read: b\.warc\.wet \(b\.warc\.wet "
                       r".*; c\.warc\.wet \(No file .* at most 10% of them missing"):  # fmt: skip
        ingest(first)
    assert (read(first, PAGES), read(first, REMOVALS), fold_counts(first.lake)) == ([], [], [])
    failed = read(first, FAILED_FILES)
    assert [(row["file_ordinal"], row["file_path"], row["error"], row["run_id"]) for row in failed] == [
        (1, B, "UnreadableFile", "run 1"), (2, C, "NotThere", "run 1"),
    ]  # fmt: skip
    assert find_staged(first) == ["000000.json", "000000.parquet", "000001.failed", "000002.failed"]

    # What was read before is not read again: it is not even there any more.
    (tmp_path / A).unlink()
    write_wet(tmp_path / B, *((f"http://b{n}.example/", text) for n, text in enumerate(texts[5:9])))
    second = make_job(SLICE, attempt=2, crawl__max_failed_share=0.4)
    ingest(second)
    assert len(read(first, PAGES)) == 9
    count = read_count(second)
    assert (count["rows_in"], count["rows_out"], count["events"]) == (
        9, 9, {"files_read": 2, "files_failed": 1, "records_conversion": 9},
    )  # fmt: skip
    assert [(row["file_ordinal"], row["attempt"]) for row in read(first, FAILED_FILES)] == [(2, 2)]

    # A file is missing still, so the next run of the slice looks for it, and for nothing else.
    (tmp_path / B).unlink()
    write_wet(tmp_path / C, ("http://c.example/", texts[9]))
    third = make_job(SLICE, run_id="run 3", crawl__max_attempts=2)
    ingest(third)
    assert Counter(row["file_path"] for row in read(first, PAGES)) == {A: 5, B: 4, C: 1}
    assert read_count(third)["events"] == {"files_read": 3, "records_conversion": 10}
    assert (read(first, FAILED_FILES), find_staged(first)) == ([], [])
    # Whole and published: the next run begins from nothing, finds two files gone, and leaves all as it is.
    with pytest.raises(SourceError, match="2 of 3 files"):
        ingest(make_job(SLICE, run_id="run 4"))
    assert len(read(first, PAGES)) == 10


def test_a_file_that_sparks_second_try_has_read_has_not_failed(tmp_path: Path) -> None:
    """As where an executor is lost after it has said why it failed, and another one reads the file."""
    plan = SlicePlan(SLICE, str(tmp_path), ((0, A), (1, B)))
    staging = open_staging(str(tmp_path), plan, load_settings({}).crawl, frozenset())
    for ordinal in (0, 1):
        staging.write_failure(ordinal, FileFailure("SourceError", "reset"))
    staging.write_report(0, FileReport(5, 99))
    assert read_results(plan, staging) == ({0: FileReport(5, 99)}, {1: FileFailure("SourceError", "reset")})


def test_the_share_that_is_set_may_be_missing_and_no_file_more() -> None:
    """Of each number of files, for shares of two digits as people write them."""
    for files in range(2, 101):
        plan = SlicePlan(SLICE, "/", tuple((number, A) for number in range(files)))
        for hundredths in range(100):
            most = files * hundredths // 100
            failures = {number: FileFailure("SourceError", "reset") for number in range(most + 1)}
            with pytest.raises(SourceError):
                check_failures(plan, failures, hundredths / 100)
            failures.pop(most)
            check_failures(plan, failures, hundredths / 100)


def test_a_killed_driver_leaves_the_files_that_were_read(
    make_job, make_settings, ingest, list_files, texts: list[str], tmp_path: Path
) -> None:
    write_wet(tmp_path / A, *((f"http://a{n}.example/", text) for n, text in enumerate(texts[:5])))
    os.mkfifo(tmp_path / B)  # whose bytes never come
    list_files(tmp_path, A, B)
    settings = make_settings()
    conf = driver_conf(settings.model_copy(update={"home": CHECKOUT / ".hub"}))
    options = [word for pair in conf.items() for word in ("--conf", "=".join(pair))]
    submit = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[2]", *options]
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen(
            [*submit, str(CHECKOUT / "spark_jobs" / "ingest_pages.py"), "--slice", SLICE, "--run", "run 1"],
            stdout=log, stderr=log, start_new_session=True, env=os.environ | {"PERSONA_HUB_HOME": str(settings.home)},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while "000000.json" not in find_staged(make_job(SLICE)):
            assert time.monotonic() < deadline, (tmp_path / "driver.log").read_text()
            time.sleep(0.1)
        family = [psutil.Process(driver.pid), *find_family(driver.pid)]
        drivers = [one for one in family if (words := read_command(one)) and "pyspark.daemon" not in words]
        assert 2 <= len(drivers) < len(family)
        for member in drivers:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        driver.wait()
        # The reader that waits for the pipe's first byte is no process that reads on for nobody.
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
    (tmp_path / A).unlink()
    (tmp_path / B).unlink()
    write_wet(tmp_path / B, ("http://b.example/", texts[5]))
    job = make_job(SLICE, run_id="run 2")
    ingest(job)
    assert Counter(row["file_path"] for row in read(job, PAGES)) == {A: 5, B: 1}
    assert (read_count(job)["events"], find_staged(job)) == ({"files_read": 2, "records_conversion": 6}, [])


def test_a_slice_of_which_no_file_can_be_read_is_never_published(make_job, ingest, list_files, tmp_path: Path) -> None:
    (tmp_path / A).write_bytes(b"")
    list_files(tmp_path, A)
    with pytest.raises(UnreadableFile, match=r"1 of 1 files .* and at least one there"):
        ingest(make_job(SLICE, crawl__max_failed_share=1))


def test_other_rules_read_anew_and_other_patience_does_not(
    make_job, ingest, list_files, texts: list[str], tmp_path: Path
) -> None:
    write_wet(tmp_path / A, ("http://a.example/", texts[0]), ("http://bad.example/", texts[1]))
    list_files(tmp_path, A, B)
    (tmp_path / "hosts").write_text("bad.example\n")
    changes = {"crawl__max_failed_share": 0.5}
    ingest(make_job(SLICE, **changes))
    written = next((Path(make_job(SLICE).lake) / "_staging").rglob("*.parquet")).stat().st_mtime_ns
    job = make_job(SLICE, run_id="run 2", crawl__timeout_s=7, **changes)
    ingest(job)
    [kept] = (Path(job.lake) / "_staging").rglob("*.parquet")
    assert kept.stat().st_mtime_ns == written
    job = make_job(SLICE, run_id="run 3", crawl__rules__blocked_hosts=tmp_path / "hosts", **changes)
    ingest(job)
    assert not kept.exists()
    assert [row["url"] for row in read(job, PAGES)] == ["http://a.example/"]
    assert [(row["rule"], row["detail"]) for row in read(job, REMOVALS)] == [
        ("blocked_host", "http://bad.example/: bad.example")
    ]
    with pytest.raises(SettingsError, match="The list of blocked hosts .* cannot be read"):
        ingest(make_job(SLICE, run_id="run 4", crawl__rules__blocked_hosts=tmp_path / "none", **changes))


def test_copies_and_budgets_over_slices(make_job, ingest, list_files, texts: list[str], tmp_path: Path) -> None:
    write_wet(tmp_path / A, *((f"http://www{n}.a.example/", text) for n, text in enumerate(texts[:6])))
    write_wet(
        tmp_path / B, ("http://b.example/0", texts[3]), ("http://b.example/1", texts[7]),
        ("http://b.example/2", texts[7] + " \n"), ("http://b.example/3", texts[8]), ("http://b.example/4", texts[5]),
    )  # fmt: skip
    list_files(tmp_path, A, B, per_slice=1)
    second = "CC-MAIN-2020-50/00002"
    ingest(make_job(SLICE))
    job = make_job(second)
    ingest(job)
    a, b = f"{SLICE}/000000", f"{second}/000001"
    assert [row["page_id"] for row in read(job, PAGES)] == [
        *(f"{a}/{n:07d}" for n in range(6)), f"{b}/0000001", f"{b}/0000003",
    ]  # fmt: skip
    removals = {row["row_id"]: (row["rule"], row["detail"]) for row in read(job, REMOVALS)}
    assert removals == {
        f"{b}/0000000": ("copy", f"http://b.example/0: {a}/0000003"),
        f"{b}/0000002": ("copy", f"http://b.example/2: {b}/0000001"),
        f"{b}/0000004": ("copy", f"http://b.example/4: {a}/0000005"),
    }
    # A repeat of the first finds its texts in no other slice; one with budgets keeps a part of what it kept.
    ingest(make_job(SLICE, run_id="run 2"))
    assert len(read(job, PAGES)) == 8
    domains = make_job(SLICE, run_id="run 3", crawl__pages_per_domain=4)
    ingest(domains)
    kept = {row["page_id"] for row in read(job, PAGES) if row["slice"] == SLICE}
    assert (len(kept), read_count(domains)["removed"]) == (4, {"domain_budget": 2})
    both = make_job(SLICE, run_id="run 4", crawl__pages_per_domain=4, crawl__pages_per_slice=3)
    ingest(both)
    assert read_count(both)["removed"] == {"domain_budget": 2, "over_budget": 1}
    assert {row["page_id"] for row in read(job, PAGES) if row["slice"] == SLICE} < kept
    details = Counter(row["detail"].partition(": ")[2] for row in read(job, REMOVALS) if row["slice"] == SLICE)
    assert details == {"a.example": 2, "": 1}


def test_slices_side_by_side_both_keep_a_text_and_a_repeat_changes_nothing(spark: SparkSession) -> None:
    stored = spark.createDataFrame(
        [("S/00001", "S/00001/000000/0000001", "h1"), ("S/00002", "S/00002/000001/0000001", "h1"),
         ("S/00002", "S/00002/000001/0000002", "h2"), ("S/00003", "S/00003/000002/0000001", "h2")],
        "slice STRING, page_id STRING, text_hash STRING",
    )  # fmt: skip

    def mark(slice_key: str, *hashes: str) -> list[tuple[str, str | None, str | None]]:
        pages = make_pages(spark, [(str(n), "d", text, None) for n, text in enumerate(hashes)], 2)
        rows = mark_earlier_copies(pages, pages, stored, slice_key).collect()
        return sorted((row["text_hash"], row["rule"], row["detail"]) for row in rows)

    first = "S/00001/000000/0000001"
    assert mark("S/00001", "h1", "h3") == [("h1", None, None), ("h3", None, None)]
    assert mark("S/00002", "h1", "h2") == [("h1", None, None), ("h2", None, None)]
    # One who comes later gets the first of them, by the id.
    assert mark("S/00009", "h1", "h2", "h3") == [
        ("h1", "copy", first), ("h2", "copy", "S/00002/000001/0000002"), ("h3", None, None),
    ]  # fmt: skip


def make_pages(spark: SparkSession, rows: list[tuple[str, str, str, str | None]], partitions: int) -> DataFrame:
    schema = "page_id STRING, domain STRING, text_hash STRING, rule STRING, detail STRING"
    return spark.createDataFrame([(*row, None) for row in rows], schema).repartition(partitions)


def test_pages_over_a_limit_are_chosen_by_their_ids_alone(spark: SparkSession) -> None:
    rows = [
        (f"{SLICE}/000000/{n:07d}", f"d{n % 10 if n % 3 else 0}", f"h{n // 2 if n < 20 else n}", None)
        for n in range(200)
    ]

    def choose(
        order: list[tuple[str, str, str, str | None]], partitions: int, per_domain: int | None, per_slice: int | None
    ) -> dict[str, str | None]:
        pages = mark_domain_budget(mark_copies(make_pages(spark, order, partitions)), per_domain)
        return {row["page_id"]: row["rule"] for row in mark_over_budget(pages, per_slice).collect()}

    chosen = choose(rows, 1, 12, 50)
    copies = {f"{SLICE}/000000/{n:07d}" for n in range(1, 20, 2)}
    assert {page for page, rule in chosen.items() if rule == "copy"} == copies
    assert Counter(chosen.values()).keys() == {"copy", None, "domain_budget", "over_budget"}
    assert choose(rows[::-1], 7, 12, 50) == chosen
    domains = dict(row[:2] for row in rows)
    passed = Counter(domains[page] for page, rule in choose(rows, 3, 12, None).items() if rule is None)
    pages = Counter(domains[page] for page in domains.keys() - copies)
    assert passed == {domain: min(12, count) for domain, count in pages.items()}
    kept = {page for page, rule in chosen.items() if rule is None}
    assert len(kept) == 50 < sum(passed.values())
    assert kept > {page for page, rule in choose(rows, 3, 12, 20).items() if rule is None}  # fewer are a part of more
    assert sorted(kept) != sorted(page for page, rule in choose(rows, 1, 12, None).items() if rule is None)[:50]
    unlimited = {page: "copy" if page in copies else None for page in domains}
    assert choose(rows, 2, None, None) == choose(rows, 2, 1_000, 1_000) == unlimited
