"""The whole way of the data, in one story: a real Airflow, real Spark drivers, real Delta tables, a real model.

The tests run in their order, each on what the one before left. Model outputs are not asserted by wording.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from local.airflow_api import AirflowError
from local.mirror import SNAPSHOT
from persona_hub.core.keys import text_hash
from persona_hub.core.text import normalize_whitespace
from persona_hub.crawl.calendar import load_calendar
from persona_hub.synthesis import registry
from persona_hub.tables.bronze import CRAWL_FILES, PAGES
from persona_hub.tables.counts import fold_counts, latest_counts
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.silver import CANDIDATES, COMPLETIONS, QUESTIONS, REMOVALS

REFRESH, EXTRACT, SYNTHESIZE = "refresh_crawls", "extract_personas", "synthesize_tasks"
CALLS_BEFORE_THE_KILL = 3
BROKEN = "logic"  # its table is not as described, until it is mended

pytestmark = pytest.mark.timeout(900)


def test_wrong_keys_are_refused_with_what_exists(hub):
    snapshot = hub.key.split("/")[0]
    for key, said in [
        (f"{snapshot}/00009", f"{snapshot} has slices 00001 to 00001"),
        ("CC-MAIN-1999-01/00001", "No snapshot CC-MAIN-1999-01 in the crawl calendar"),
        ("yesterday", "SNAPSHOT/ORDINAL such as"),
        (None, "partition"),
    ]:
        with pytest.raises(AirflowError) as refused:
            hub.api.trigger_run(EXTRACT, key)
        assert " 400 " in refused.value.found
        assert said in str(refused.value)
    assert hub.api.list_runs(EXTRACT, hub.key) == []


def test_a_driver_killed_half_way_is_retried_and_nothing_is_doubled(hub):
    write_deltalake(task_table(BROKEN).path(hub.settings.lake), pa.table({"something": ["else"]}))
    run_id = hub.api.trigger_run(EXTRACT, hub.key)
    spooled = wait_for_answers(hub, run_id, CALLS_BEFORE_THE_KILL)
    kill_drivers("extract_candidates.py")
    answered = read_spool_keys(hub)
    assert len(answered) >= spooled

    assert hub.api.wait_for_run(EXTRACT, run_id) == "success"
    tries = {task.task_id: task.try_number for task in hub.api.list_tasks(EXTRACT, run_id)}
    assert tries["extract_candidates"] == 2
    assert {tries[name] for name in tries if name != "extract_candidates"} == {1}

    ledger = [row for row in hub.read(COMPLETIONS) if row["stage"] == "extract_candidates"]
    keys = [row["completion_key"] for row in ledger]
    assert len(keys) == len(set(keys)), "an answer is in the ledger twice"
    assert answered <= set(keys), "an answer that was spooled before the kill is lost"
    asked = {row["completion_key"] for row in hub.read(QUESTIONS) if row["stage"] == "extract_candidates"}
    assert set(keys) == asked
    # What was answered before the kill was not asked again: the ledger's row is the one of the first try.
    first_try = {row["completion_key"]: row["answered_at"].isoformat() for row in ledger}
    for key, at in read_answer_times(answered).items():
        assert first_try[key] == at
    stage = find_count(hub, "extract_candidates")
    assert stage["attempt"] == 2
    assert stage["calls"] == len(asked), "the second try counts what the killed one paid for, each once"
    rows = hub.read(CANDIDATES)
    assert len({row["persona_id"] for row in rows}) == len(rows) == stage["rows_out"]


def test_the_estimate_is_a_page_behind_the_login(hub):
    run_id = next(iter(hub.api.list_runs(EXTRACT, hub.key)))["dag_run_id"]
    path = f"/dags/{EXTRACT}/dagRuns/{quote(run_id, safe='')}/taskInstances/estimate_candidates/links"
    address = hub.services.api_url + hub.api.call("GET", path)["extra_links"]["Estimate"]
    assert httpx.get(address).status_code == 401
    shown = httpx.get(address, headers={"Authorization": f"Bearer {hub.api.fetch_token()}"})
    assert shown.status_code == 200
    assert "pending questions" in shown.text and hub.key in shown.text


def test_every_record_is_counted_and_every_missing_row_explained(hub):
    counts = {row["stage"]: row for row in latest_counts(fold_counts(hub.settings.lake), hub.key)}
    ingest = counts["ingest_pages"]
    records, files = (318, 1) if hub.is_real else (52, 2)
    assert (ingest["rows_in"], ingest["events"]["records_conversion"]) == (records, records)
    assert ingest["events"]["digests_verified"] == records
    assert "digests_failed" not in ingest["events"]
    assert ingest["events"]["files_read"] == files
    assert ingest["rows_out"] == 12
    chain = ["ingest_pages", "extract_candidates", "dedup_words", "dedup_embeddings", "check_personas", "publish_personas"]
    for before, after in pairwise(chain):
        assert counts[before]["rows_out"] == counts[after]["rows_in"], f"rows vanish between {before} and {after}"
    removals = Counter((row["stage"], row["rule"]) for row in hub.read(REMOVALS) if not row["data_type"])
    assert removals == {
        (stage, rule): n for stage, row in counts.items() if not row["data_type"] for rule, n in row["removed"].items()
    }
    assert len(hub.read(PERSONAS)) == counts["publish_personas"]["rows_out"] >= 1


def test_samples_follow_by_asset_and_a_failing_type_stops_no_other(hub):
    run_id = hub.api.find_new_run(SYNTHESIZE, hub.key, set())
    assert hub.api.wait_for_run(SYNTHESIZE, run_id) == "failed"
    tasks = hub.api.list_tasks(SYNTHESIZE, run_id)
    done = Counter(task.task_id for task in tasks if task.state == "success")
    others = len(registry.names()) - 1
    assert done == {
        "make_samples.estimate_samples": others + 1,
        "make_samples.synthesize_samples": others,
        "make_samples.export_samples": others,
        "report_samples": 1,
    }
    failed = [task for task in tasks if task.state == "failed"]
    assert [(task.map_index, task.try_number) for task in failed] == [(registry.names().index(BROKEN), 1)]
    log = "\n".join(hub.api.read_log(SYNTHESIZE, run_id, failed[0]))
    assert f"TableMismatch: Table gold.task_{BROKEN} at " in log
    assert "To do: migrate the table" in log
    assert "A retry cannot cure this" in log
    counts = latest_counts(fold_counts(hub.settings.lake), hub.key)
    for name in set(registry.names()) - {BROKEN}:
        read = next(row for row in counts if (row["stage"], row["data_type"]) == ("publish_samples", name))
        rows = hub.read(task_table(name))
        assert (read["rows_in"], read["rows_out"]) == (1, len(rows))
        assert sum(read["removed"].values()) == 1 - len(rows)


def test_every_row_leads_back_to_the_bytes_of_its_record(hub):
    pages = {row["page_id"]: row for row in hub.read(PAGES)}
    personas = {row["persona_id"]: row for row in hub.read(PERSONAS)}
    answers = {row["completion_key"] for row in hub.read(COMPLETIONS)}
    for row in personas.values():
        page = pages[row["page_id"]]
        assert row["url"] == page["url"]
        assert row["completion_key"] in answers
        check_record(hub.files / page["file_path"], page)
    for name in set(registry.names()) - {BROKEN}:
        for row in hub.read(task_table(name)):
            assert personas[row["persona_id"]]["persona"] == row["persona"]
            assert row["completion_key"] in answers


def test_the_exports_are_the_tables(hub):
    assert not (Path(hub.settings.exports) / hub.key / BROKEN).exists()
    for name in set(registry.names()) - {BROKEN}:
        folder = Path(hub.settings.exports) / hub.key / name
        rows = sorted(hub.read(task_table(name)), key=lambda row: row["sample_id"])
        lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        assert lines == [
            {"input persona": row["persona"], "synthesized text": row["text"], "description": row["description"]}
            for row in rows
        ]
        assert pq.read_table(folder / "samples.parquet").num_rows == len(rows)
        manifest = json.loads((folder / "manifest.json").read_text())
        assert (manifest["slice"], manifest["data_type"], manifest["rows"]) == (hub.key, name, len(rows))
        assert sum(made["rows"] for made in manifest["made_with"]) == len(rows)


def test_a_backfill_makes_the_slice_again_with_no_call_and_no_changed_row(hub):
    shutil.rmtree(task_table(BROKEN).path(hub.settings.lake))  # mended: its turn now, with the answer it has paid for
    before = snapshot_tables(hub)
    versions = {table.name: DeltaTable(table.path(hub.settings.lake)).version() for table in (PERSONAS, COMPLETIONS)}
    runs = {dag: {run["dag_run_id"] for run in hub.api.list_runs(dag, hub.key)} for dag in (EXTRACT, SYNTHESIZE)}
    end = hub.api.list_runs(EXTRACT, hub.key)[0]["partition_date"]
    done = run_airflow(
        hub, "backfill", "create", "--dag-id", EXTRACT, "--from-date", end, "--to-date", end,
        "--reprocess-behavior", "completed",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for dag in (EXTRACT, SYNTHESIZE):
        assert hub.api.wait_for_run(dag, hub.api.find_new_run(dag, hub.key, runs[dag])) == "success"

    for row in latest_counts(fold_counts(hub.settings.lake), hub.key):
        assert row["calls"] == 0, f"{row['stage']} {row['data_type']} asked again"
    assert snapshot_tables(hub) == before
    made = find_count(hub, "publish_samples", BROKEN)
    assert (made["rows_in"], made["rows_out"]) == (1, len(hub.read(task_table(BROKEN))))
    # No commit either: consumers of the change feed hear of nothing.
    for table in (PERSONAS, COMPLETIONS):
        assert DeltaTable(table.path(hub.settings.lake)).version() == versions[table.name]


def test_crawls_are_refreshed_from_the_local_mirror(hub):
    """Last, since a snapshot that the mirror has too takes its address, and pages name where they were read."""
    known = {snapshot.id: snapshot for snapshot in load_calendar(hub.settings.calendar).snapshots}
    assert hub.settings.crawl.source == hub.services.mirror_url
    for _ in range(2):
        assert hub.api.wait_for_run(REFRESH, hub.api.trigger_run(REFRESH, None)) == "success"
    calendar = load_calendar(hub.settings.calendar)
    entered = calendar.by_id[SNAPSHOT]
    assert (entered.base, entered.files) == (hub.services.mirror_url, 2)
    assert set(calendar.by_id) == {*known, SNAPSHOT}
    assert [row["ordinal"] for row in hub.read(CRAWL_FILES) if row["snapshot"] == SNAPSHOT] == [0, 1]
    others = [snapshot for snapshot in known.values() if snapshot.id != SNAPSHOT]
    assert [calendar.by_id[snapshot.id] for snapshot in others] == others


def snapshot_tables(hub) -> dict[str, list[dict[str, object]]]:
    types = [name for name in registry.names() if name != BROKEN]
    tables = [PAGES, CANDIDATES, COMPLETIONS, QUESTIONS, PERSONAS, *map(task_table, types)]
    return {table.name: sorted(hub.read(table), key=lambda row: [str(row[k]) for k in table.key]) for table in tables}


def find_count(hub, stage: str, data_type: str = "") -> dict[str, object]:
    counts = latest_counts(fold_counts(hub.settings.lake), hub.key)
    return next(row for row in counts if (row["stage"], row["data_type"]) == (stage, data_type))


def spool_files(hub) -> list[Path]:
    return list((Path(hub.settings.lake) / "silver" / "_spool").glob("*/extract_candidates/*.jsonl"))


def wait_for_answers(hub, run_id: str, wanted: int, timeout_s: float = 300) -> int:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        spooled = sum(file.read_bytes().count(b"\n") for file in spool_files(hub))
        if spooled >= wanted:
            return spooled
        failed = [task for task in hub.api.list_tasks(EXTRACT, run_id) if task.state == "failed"]
        assert not failed, hub.api.read_log(EXTRACT, run_id, failed[0])[-20:]
        time.sleep(0.1)
    raise AssertionError(f"fewer than {wanted} answers within {timeout_s} s")


ANSWER_TIMES: dict[str, str] = {}


def read_spool_keys(hub) -> set[str]:
    for file in spool_files(hub):
        for line in file.read_text().split("\n")[:-1]:
            row = json.loads(line)
            ANSWER_TIMES.setdefault(row["completion_key"], row["answered_at"])
    return set(ANSWER_TIMES)


def read_answer_times(keys: set[str]) -> dict[str, str]:
    return {key: ANSWER_TIMES[key] for key in keys}


def kill_drivers(job: str) -> None:
    """SIGKILL to the JVM and the Python of a job's driver, as the out-of-memory killer would."""
    drivers = [process for process in psutil.process_iter(["cmdline"]) if is_driver(process, job)]
    assert drivers, f"no driver of {job} runs"
    for process in drivers:
        os.kill(process.pid, signal.SIGKILL)


def is_driver(process: psutil.Process, job: str) -> bool:
    words = process.info["cmdline"] or []
    return any(word.endswith(f"spark_jobs/{job}") for word in words) and "airflow" not in words[0]


def run_airflow(hub, *words: str) -> subprocess.CompletedProcess[str]:
    environment = hub.home.process_environment(hub.services.settings)
    command = [str(Path(sys.prefix) / "bin" / "airflow"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


def check_record(file: Path, page: dict[str, object]) -> None:
    """Fetches just the record's bytes again, and finds the page in them."""
    with file.open("rb") as stream:
        stream.seek(page["record_offset"])
        record = gzip.decompress(stream.read(page["record_length"]))
    head, _, rest = record.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["WARC-Target-URI"] == page["url"]
    assert headers["WARC-Record-ID"].strip("<>") == page["record_id"]
    body = rest[: int(headers["Content-Length"])]
    digest = base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    assert headers["WARC-Block-Digest"] == f"sha1:{digest}"
    text = normalize_whitespace(body.decode("utf-8-sig"))
    assert text.startswith(page["text"]) if page["truncated"] else text == page["text"]
    assert page["text_hash"] == text_hash(page["text"])
