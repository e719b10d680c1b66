"""The spool: what was answered survives; what was cut in the middle does not count; who writes is known."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from persona_hub.errors import LakeError, LeaseHeld
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Completion
from persona_hub.llm.spool import (
    SpoolWriter,
    clear_spool,
    list_files,
    read_lines,
    read_spool,
    spool_folder,
    wait_for_writers,
)

FIELDS = {"slice": "S/00001", "stage": "extract", "data_type": "", "run_id": "r", "prompt_hash": "h", "model": "m"}
AT = "2026-11-01T00:00:00+00:00"


def completion(key: str, text: str | None = "Hello.") -> Completion:
    return Completion(key, text, "stop", 100, 0, 20, 0.5, 1, answered_by="served")


def open_writer(folder: Path, name: str = "w", **options) -> SpoolWriter:
    return SpoolWriter(folder, FIELDS, Price(2.0, 10.0), name=name, **options)


def test_folder_tells_slice_stage_and_type() -> None:
    assert spool_folder("/lake", "S/00001", "extract") == Path("/lake/silver/_spool/S_00001/extract")
    assert spool_folder("/lake", "S/00001", "extract", "math").name == "extract-math"


def test_an_answer_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    begun = datetime.now(UTC)
    writer.write(completion("k1", "Zwei\nZeilen 水 \ud83d"))
    [row], files = read_spool(tmp_path)  # not closed: as if the process had been killed
    assert begun <= row.pop("answered_at") <= datetime.now(UTC)
    assert row == FIELDS | {
        "completion_key": "k1", "answered_by": "served", "text": "Zwei\nZeilen 水 \ufffd", "finish_reason": "stop",
        "prompt_tokens": 100, "cached_tokens": 0, "completion_tokens": 20, "reasoning_tokens": None, "money": 0.0004,
        "latency_s": 0.5, "attempts": 1, "maybe_paid": 0, "error_class": None, "error": None,
    }  # fmt: skip
    assert files == [writer.path]
    assert writer.money == 0.0004
    writer.close()


def test_a_torn_last_line_was_never_answered(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    for key in ("k1", "k2"):
        writer.write(completion(key))
    writer.close()
    whole = writer.path.read_bytes()
    first_end = whole.index(b"\n") + 1
    for cut in (first_end, first_end + 1, len(whole) - 1):
        writer.path.write_bytes(whole[:cut])
        assert [row["completion_key"] for row in read_spool(tmp_path)[0]] == ["k1"]
    writer.path.write_bytes(b"")
    assert read_spool(tmp_path) == ([], [writer.path])


def test_the_first_answer_of_a_key_wins(tmp_path: Path) -> None:
    for name, texts in (("b", ["late", "later"]), ("a", ["early", "again"])):
        rows = [{"completion_key": "k1", "text": text, "answered_at": AT} for text in texts]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["text"] for row in read_spool(tmp_path)[0]] == ["early"]


def test_what_is_no_answer_is_kept_aside(tmp_path: Path) -> None:
    good = json.dumps({"completion_key": "k1", "text": "x", "answered_at": AT})
    file = tmp_path / "w.jsonl"
    file.write_text("\n".join(["{half", good, "[]", '{"completion_key": "k2"}', "torn"]))
    assert [row["completion_key"] for row in read_lines(file)] == ["k1"]
    assert (tmp_path / "w.broken").read_text() == '{half\n[]\n{"completion_key": "k2"}\n'


def test_a_newer_versions_answers_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_text(json.dumps({"v": 3, "completion_key": "k1", "answered_at": AT}) + "\n")
    with pytest.raises(LakeError, match=r"holds answers of version 3 \(line 1, k1\). Wanted: version 2 or older"):
        read_spool(tmp_path)


def test_a_living_writer_is_waited_for_and_named(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline()
    with pytest.raises(LeaseHeld, match=rf"1 processes still bring answers home to .*w-.*-{child.pid}-"):
        wait_for_writers(tmp_path, 0.3)
    wait_for_writers(tmp_path, 0.3, "other-")
    os.kill(child.pid, signal.SIGKILL)
    wait_for_writers(tmp_path, 5)  # nobody reaps it: a lock ends with its process all the same
    assert [row["completion_key"] for row in read_spool(tmp_path)[0]] == ["k1"]
    child.wait()


WRITE = f"""
import pathlib, sys, time
from persona_hub.llm.requests import Completion
from persona_hub.llm.spool import SpoolWriter
writer = SpoolWriter(pathlib.Path(sys.argv[1]), {FIELDS!r}, None)
writer.write(Completion("k1", "Hello.", "stop", 1, 0, 1, 0.5, 1))
print("written", flush=True)
time.sleep(60)
"""


def test_a_line_that_the_disk_refuses_spoils_no_other(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.write(completion("a"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            writer.write(completion("b", "x" * 30_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.write(completion("c"))
    assert [row["completion_key"] for row in read_spool(tmp_path)[0]] == ["a", "c"]
    writer.close()


def test_odd_finish_reasons_can_be_stored(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.write(Completion("k", "x", "\ud800", 1, 0, 1, 0.5, 1))
    assert read_spool(tmp_path)[0][0]["finish_reason"] == "\ufffd"
    writer.close()


def test_only_the_files_of_one_task_are_read(tmp_path: Path) -> None:
    for name in ("p00001", "p00011"):
        writer = open_writer(tmp_path, name)
        writer.write(completion(name))
        writer.close()
    assert [row["completion_key"] for row in read_spool(tmp_path, "p00001-")[0]] == ["p00001"]


def test_cleared_files_are_gone_and_later_ones_stay(tmp_path: Path) -> None:
    first = open_writer(tmp_path)
    first.write(completion("k1"))
    first.path.with_suffix(".status").write_text("{}")
    first.close()
    _, files = read_spool(tmp_path)
    later = open_writer(tmp_path)
    clear_spool(tmp_path, files)
    assert list_files(tmp_path) == [later.path] == list(tmp_path.iterdir())
    later.close()
    clear_spool(tmp_path, [later.path])
    assert not tmp_path.exists()


def test_no_folder_is_an_empty_spool(tmp_path: Path) -> None:
    assert read_spool(tmp_path / "none") == ([], [])
    wait_for_writers(tmp_path / "none", 0)
