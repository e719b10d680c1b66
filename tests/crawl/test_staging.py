"""Staged files of a slice: what decides their fingerprint, what a try leaves to the next, and writes that break off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persona_hub.crawl.calendar import SlicePlan
from persona_hub.crawl.staging import (
    FAILURE,
    REPORT,
    STAGED,
    STATUS,
    FileFailure,
    FileReport,
    PageWriter,
    Staging,
    fingerprint,
    open_staging,
)
from persona_hub.errors import LakeError
from persona_hub.settings import CrawlSettings, load_settings

PLAN = SlicePlan("CC-MAIN-2026-30/00012", "https://a.example", ((44, "x/a.warc.wet.gz"), (45, "x/b.warc.wet.gz")))


def load(**changes: object) -> CrawlSettings:
    return load_settings({f"PERSONA_HUB_CRAWL__{name.upper()}": str(value) for name, value in changes.items()}).crawl


def make_rows(*records: int) -> pa.RecordBatch:
    blank = dict.fromkeys(STAGED.names)
    return pa.RecordBatch.from_pylist([blank | {"record_number": record} for record in records], schema=STAGED)


def write_pages(staging: Staging, ordinal: int, *records: int) -> None:
    writer = PageWriter(staging, ordinal)
    writer.write([make_rows(*records)])
    writer.close()


def read_pages(staging: Staging, ordinal: int) -> list[int]:
    return pq.read_table(staging.pages_path(ordinal), partitioning=None)["record_number"].to_pylist()


def test_what_decides_over_pages_is_in_the_fingerprint_and_nothing_else() -> None:
    first = fingerprint(PLAN, load(), frozenset({"bad.example", "worse.example"}))
    same = {
        "source": "https://b.example", "index": "https://b.example/i.json", "kinds": '["warc"]', "newest": 3,
        "files_per_slice": 7, "pages_per_slice": 10, "pages_per_domain": 2, "max_failed_share": 0.5,
        "contact": "a@b.example", "max_connections": 1, "requests_per_second": 1, "timeout_s": 5, "max_attempts": 20,
        "rules__blocked_hosts": "elsewhere/hosts.txt",
    }  # fmt: skip
    other = {"min_chars": 10, "max_chars": 500, "rules__languages": '["en"]', "rules__max_language_rank": 900}
    blocked = frozenset({"worse.example", "bad.example"})
    for name, value in same.items():
        assert fingerprint(PLAN, load(**{name: value}), blocked) == first, name
    for name, value in other.items():
        assert fingerprint(PLAN, load(**{name: value}), blocked) != first, name
    named = {name.partition("__")[0] for name in same | other}
    assert named == CrawlSettings.model_fields.keys()
    assert fingerprint(replace(PLAN, base="https://b.example"), load(), blocked) != first
    assert fingerprint(replace(PLAN, files=PLAN.files[:1]), load(), blocked) != first
    assert fingerprint(PLAN, load(), frozenset({"bad.example"})) != first


def test_the_next_try_finds_what_was_read_and_nothing_that_failed(tmp_path: Path) -> None:
    staging = open_staging(str(tmp_path), PLAN, load(), frozenset())
    assert staging.folder.parent == tmp_path / "_staging" / "ingest_pages" / "CC-MAIN-2026-30" / "00012"
    write_pages(staging, 44, 1, 2)
    staging.write_report(44, FileReport(2, 99, {"records_conversion": 2}, "ends early"))
    staging.write_failure(45, FileFailure("SourceError", "gone"))
    staging.write_status(45, {"pages": 1})
    PageWriter(staging, 45)  # a killed reader's
    names = sorted(file.suffix for file in staging.folder.iterdir())
    assert names == [FAILURE, REPORT, ".parquet", ".part", STATUS]

    again = open_staging(str(tmp_path), PLAN, load(timeout_s=600), frozenset())
    assert again == staging
    assert [again.list_ordinals(suffix) for suffix in (REPORT, FAILURE, STATUS)] == [[44], [], []]
    assert again.read_report(44) == FileReport(2, 99, {"records_conversion": 2}, "ends early")
    assert read_pages(again, 44) == [1, 2]
    assert sorted(file.name for file in again.folder.iterdir()) == ["000044.json", "000044.parquet"]

    other = open_staging(str(tmp_path), PLAN, load(min_chars=5), frozenset())
    assert (other.list_ordinals(REPORT), staging.folder.exists()) == ([], False)
    other.remove()
    assert not other.folder.parent.exists()


def test_pages_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    staging = open_staging(str(tmp_path), PLAN, load(), frozenset())
    writer = PageWriter(staging, 44)
    writer.write([make_rows(1, 2), make_rows(), make_rows(3)])
    assert not staging.pages_path(44).exists()
    writer.discard()
    assert list(staging.folder.iterdir()) == []
    write_pages(staging, 44, 7)
    write_pages(staging, 44, 8, 9)
    assert read_pages(staging, 44) == [8, 9]
    write_pages(staging, 45)
    assert read_pages(staging, 45) == []


@pytest.mark.parametrize("give_up", ["remove", "other rules"])
def test_killed_while_it_removes_no_report_stays_without_its_pages(tmp_path: Path, give_up: str) -> None:
    """Whatever order a file system lists names in: here the process dies at the first file that it removes."""
    staging = open_staging(str(tmp_path), PLAN, load(), frozenset())
    for ordinal in (44, 45):
        write_pages(staging, ordinal, 1)
        staging.write_report(ordinal, FileReport(1, 99))
    act = "staging.remove()" if give_up == "remove" else "open_staging(folder, PLAN, load(min_chars=5), frozenset())"
    script = f"""
import os, sys
folder, tests = sys.argv[1:]
sys.path.insert(0, tests)
from test_staging import PLAN, load, open_staging
staging = open_staging(folder, PLAN, load(), frozenset())
remove = os.unlink
def die(name, **where):
    if str(name).endswith(".parquet"):
        remove(name, **where)
        os._exit(9)
os.unlink = die
{act}
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)], check=False)
    assert killed.returncode == 9
    again = open_staging(str(tmp_path), PLAN, load(), frozenset())
    assert all(again.pages_path(ordinal).exists() for ordinal in again.list_ordinals(REPORT))
    assert again.list_ordinals(REPORT) == []
    assert [file.name for file in again.folder.parent.iterdir()] == [again.folder.name]


def break_by_removal(staging: Staging) -> None:
    staging.remove()


def break_by_a_file(staging: Staging) -> None:
    staging.remove()
    staging.folder.parent.parent.mkdir(parents=True, exist_ok=True)
    staging.folder.parent.write_text("")


@pytest.mark.parametrize("spoil", [break_by_removal, break_by_a_file])
def test_a_staging_that_cannot_be_written_is_the_lakes_fault(tmp_path: Path, spoil: Callable[[Staging], None]) -> None:
    staging = open_staging(str(tmp_path), PLAN, load(), frozenset())
    writer = PageWriter(staging, 44)
    writer.write([make_rows(1)])
    spoil(staging)
    with pytest.raises(LakeError, match=r"Pages cannot be kept in .*000044\.parquet.*files that were read are not"):
        writer.close()
    with pytest.raises(LakeError, match=r"Pages cannot be kept in .*000045\.parquet"):
        PageWriter(staging, 45)
