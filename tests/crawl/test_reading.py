"""One crawl file into the staging: its pages and counts, or why not."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from crawl_server import answer, reset, run_crawl_server, stop
from crawl_server import make_access as make_hasty_access

from persona_hub.core.keys import text_hash
from persona_hub.core.page_judge import PageJudge
from persona_hub.crawl.files import make_access, open_file
from persona_hub.crawl.reading import BATCH_CHARS, BATCH_PAGES, FilePlan, stage_file
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.crawl.staging import FAILURE, REPORT, STATUS, FileFailure, Staging
from persona_hub.crawl.turns import take_turn
from persona_hub.settings import Settings, load_settings

SLICE = "CC-MAIN-2020-50/00001"
WET = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
Stage = Callable[..., Staging]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"PERSONA_HUB_HOME": str(tmp_path / "home")})


@pytest.fixture
def stage(tmp_path: Path, settings: Settings) -> Stage:
    def read(base: Path | str, name: str) -> Staging:
        staging = Staging(tmp_path / "staging")
        staging.folder.mkdir(exist_ok=True)
        judge = PageJudge(settings.crawl, frozenset())
        stage_file(staging, FilePlan(SLICE, str(base), 7, name), make_access(settings), judge)
        return staging

    return read


def read_rows(staging: Staging) -> list[dict[str, Any]]:
    return pq.read_table(staging.pages_path(7), partitioning=None).to_pylist()


def make_wet(*texts: str) -> bytes:
    parts = [b"WARC/1.0\r\nWARC-Type: warcinfo\r\nWARC-Date: 2026-10-01T00:00:00Z\r\nContent-Length: 0\r\n\r\n\r\n\r\n"]
    for number, text in enumerate(texts):
        head = (
            f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://www.a{number}.example/x\r\n"
            "WARC-Date: 2026-10-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000001>\r\n"
            f"Content-Length: {len(text.encode())}\r\n\r\n"
        )
        parts.append(head.encode() + text.encode() + b"\r\n\r\n")
    return b"".join(parts)


def test_each_page_of_the_real_file_as_reader_and_judge_give_it(
    stage: Stage, settings: Settings, shared_data: Path
) -> None:
    staging = stage(shared_data, WET)
    with open_file(str(shared_data), WET, make_access(settings)) as stream:
        pages = list(read_pages(stream, WET, ReadReport()))
    verdicts = PageJudge(settings.crawl, frozenset()).judge([page.text for page in pages], [page.url for page in pages])
    rows = {row["page_id"]: row for row in read_rows(staging)}
    assert len(pages) == len(rows) == 318
    for page, verdict in zip(pages, verdicts, strict=True):
        row = rows[f"{SLICE}/000007/{page.record_number:07d}"]
        if verdict.refusal:
            found = {name: value for name, value in row.items() if value is not None}
            rule, detail = verdict.refusal.rule, verdict.refusal.detail
            assert found == {"page_id": row["page_id"], "url": page.url, "rule": rule, "detail": detail}
            continue
        assert row == {
            "slice": SLICE, "page_id": row["page_id"], "file_base": str(shared_data), "file_path": WET,
            "record_number": page.record_number, "record_type": "conversion", "record_id": page.record_id,
            "record_offset": page.offset, "record_length": page.length, "digest_ok": True, "url": page.url,
            "domain": verdict.domain, "crawled_at": page.crawled_at, "declared_language": page.declared_language,
            "language": verdict.language, "language_rank": verdict.language_rank, "text": verdict.text,
            "truncated": verdict.truncated, "text_hash": text_hash(verdict.text), "rule": None, "detail": None,
        }  # fmt: skip
    kept = [row["page_id"] for row in read_rows(staging) if row["rule"] is None]
    assert kept == sorted(kept) and len(kept) > 200
    report = staging.read_report(7)
    assert (report.pages, report.cut) == (318, None)
    assert report.stored_bytes == (shared_data / WET).stat().st_size
    assert report.events == {"digests_verified": 318, "records_conversion": 318, "records_warcinfo": 1}
    assert sorted(file.name for file in staging.folder.iterdir()) == ["000007.json", "000007.parquet"]


def test_pages_in_any_number_and_of_any_size(stage: Stage, tmp_path: Path) -> None:
    texts = [f"Number {number} tells of bread. " for number in range(BATCH_PAGES * 2 + 1)]
    texts += ["A very long story of bread and butter. " * (BATCH_CHARS // 30), ""]
    (tmp_path / "a.warc.wet").write_bytes(make_wet(*texts))
    rows = read_rows(stage(tmp_path, "a.warc.wet"))
    assert Counter(row["rule"] for row in rows)["too_short"] == BATCH_PAGES * 2 + 1
    assert {row["page_id"][-7:] for row in rows} == {f"{number:07d}" for number in range(1, len(texts) + 1)}


def test_html_that_may_not_be_used_leaves_only_its_address(stage: Stage, tmp_path: Path) -> None:
    answers = {
        "gone": "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>secret words",
        "image": "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\nsecret words",
        "robots": "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Robots-Tag: noindex\r\n\r\n<p>secret words",
    }
    records = []
    for name, content in answers.items():
        head = (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://{name}.example/\r\nWARC-Date: "
            "2026-10-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:1>\r\nContent-Type: application/http; msgtype=response"
            f"\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        records.append(gzip.compress(f"{head}{content}\r\n\r\n".encode()))
    (tmp_path / "a.warc.gz").write_bytes(b"".join(records))
    rows = read_rows(stage(tmp_path, "a.warc.gz"))
    assert [(row["url"], row["rule"]) for row in rows] == [
        ("http://gone.example/", "http_status"),
        ("http://image.example/", "media_type"),
        ("http://robots.example/", "noindex"),
    ]
    assert not any("secret" in str(row) or row["text"] or row["text_hash"] for row in rows)


def test_a_file_that_cannot_be_read_says_why_and_leaves_nothing_else(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "login.warc.wet.gz").write_bytes(gzip.compress(b"<html>Please log in</html>"))

    def read_failure(base: Path | str, name: str) -> FileFailure:
        staging = stage(base, name)
        assert [file.name for file in staging.folder.iterdir()] == ["000007.failed"]
        return staging.read_failure(7)

    assert read_failure(tmp_path, "gone.warc.wet.gz").error == "NotThere"
    login = read_failure(tmp_path, "login.warc.wet.gz")
    assert login.error == "UnreadableFile" and login.reason.startswith("login.warc.wet.gz ")
    # Opened well, and then an error of the disk: no page of it is at the address 0.
    assert read_failure("/proc/self", "mem") == FileFailure(
        "SourceError", "mem in /proc/self cannot be read: [Errno 5] Input/output error"
    )


def test_while_it_is_read_it_says_how_far(stage: Stage, shared_data: Path, tmp_path: Path) -> None:
    stored = (shared_data / WET).read_bytes()
    os.mkfifo(tmp_path / "a.warc.wet.gz")
    reader = threading.Thread(target=stage, args=(tmp_path, "a.warc.wet.gz"))
    reader.start()
    staging = Staging(tmp_path / "staging")
    with (tmp_path / "a.warc.wet.gz").open("wb") as source:
        source.write(stored[:-100_000])
        source.flush()
        deadline = time.monotonic() + 20
        while not staging.list_ordinals(STATUS) or staging.read_status(7)["pages"] < BATCH_PAGES:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status = staging.read_status(7)
        assert (staging.list_ordinals(REPORT), staging.pages_path(7).exists()) == ([], False)
        source.write(stored[-100_000:])
    reader.join(20)
    assert status["pages"] == BATCH_PAGES and 0 < status["bytes"] <= len(stored) - 100_000
    assert (status["size"], status["waits"]) == (None, False)  # a pipe has no length
    assert [staging.list_ordinals(suffix) for suffix in (REPORT, FAILURE, STATUS)] == [[7], [], []]
    assert staging.read_report(7).pages == len(read_rows(staging)) == 318


def test_a_broken_connection_costs_no_page_and_doubles_none(
    stage: Stage, settings: Settings, shared_data: Path, tmp_path: Path
) -> None:
    local = read_rows(stage(shared_data, WET))
    judge, name = PageJudge(settings.crawl, frozenset()), "x.warc.wet.gz"
    with run_crawl_server() as server:
        server.files[f"/{name}"] = (shared_data / WET).read_bytes()
        server.spoil(f"/{name}", answer(503), reset(300_000), answer(503), stop(1), reset(500_000))
        staging, plan = Staging(tmp_path / "staging"), FilePlan(SLICE, server.url, 7, name)
        stage_file(staging, plan, make_hasty_access(tmp_path), judge)
        place = {"file_base": server.url, "file_path": name}
        assert read_rows(staging) == [row | (place if row["rule"] is None else {}) for row in local]
        assert staging.list_ordinals(FAILURE) == []
        before = len(server.asked)
        server.spoil("/y.warc.wet.gz", *[answer(503)] * 9)
        stage_file(staging, FilePlan(SLICE, server.url, 8, "y.warc.wet.gz"), make_hasty_access(tmp_path), judge)
        assert len(server.asked) - before == 4  # its attempts are spent
    failure = staging.read_failure(8)
    assert failure.error == "SourceError" and "/y.warc.wet.gz" in failure.reason and "503" in failure.reason


def test_who_waits_for_a_turn_says_so(settings: Settings, tmp_path: Path) -> None:
    judge, staging = PageJudge(settings.crawl, frozenset()), Staging(tmp_path)
    access = make_hasty_access(tmp_path, max_connections=1)
    with run_crawl_server() as server:
        server.files["/a.warc.wet"] = make_wet("A few words of bread. ")
        turn = take_turn(urlsplit(server.url).netloc, access)
        plan = FilePlan(SLICE, server.url, 7, "a.warc.wet")
        reader = threading.Thread(target=stage_file, args=(staging, plan, access, judge))
        reader.start()
        deadline = time.monotonic() + 20
        while not staging.list_ordinals(STATUS):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert staging.read_status(7) == {"pages": 0, "bytes": 0, "size": None, "waits": True}
        turn.release()
        reader.join(20)
    assert staging.read_report(7).pages == 1


def test_a_reader_whose_parent_is_gone_reads_no_further(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.warc.wet")
    (tmp_path / "staging").mkdir()
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from persona_hub.core.page_judge import PageJudge\n"
        "from persona_hub.crawl.files import make_access\n"
        "from persona_hub.crawl.reading import FilePlan, stage_file\n"
        "from persona_hub.crawl.staging import Staging\n"
        "from persona_hub.settings import load_settings\n"
        "folder = Path(sys.argv[1])\n"
        "settings = load_settings({'PERSONA_HUB_HOME': str(folder)})\n"
        "if child := os.fork():\n"
        "    print(child, flush=True)\n"
        "    os.waitpid(child, 0)\n"
        "else:\n"
        "    plan = FilePlan('A/00001', str(folder), 7, 'a.warc.wet')\n"
        "    judge = PageJudge(settings.crawl, frozenset())\n"
        "    stage_file(Staging(folder / 'staging'), plan, make_access(settings), judge)\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert parent.stdout
    child = int(parent.stdout.readline())
    with (tmp_path / "a.warc.wet").open("wb") as source:  # returns when the child has opened it too
        source.write(make_wet("A few words of bread. "))
        source.flush()
        staging, deadline = Staging(tmp_path / "staging"), time.monotonic() + 20
        while not staging.list_ordinals(STATUS):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        while not is_dead(child):
            assert time.monotonic() < deadline, "the reader waits on for bytes that nobody wants"
            time.sleep(0.05)
    assert [staging.list_ordinals(suffix) for suffix in (REPORT, FAILURE)] == [[], []]


def is_dead(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
