"""The spool: what was answered survives; what was cut in the middle does not count."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from persona_hub.llm.requests import Completion
from persona_hub.llm.spool import SpoolWriter, clear_spool, count_spooled, read_spool, spool_folder
from persona_hub.settings import LlmSettings

SETTINGS = LlmSettings(model="m", price_input=2.0, price_output=10.0)


def completion(key: str, text: str | None = "Hello.") -> Completion:
    return Completion(key, text, "stop", 100, 0, 20, 0.5, 1, "served")


def open_writer(folder: Path) -> SpoolWriter:
    return SpoolWriter(folder, "S/00001", "extract", SETTINGS)


def test_folder_tells_slice_stage_and_type() -> None:
    assert spool_folder("/lake", "S/00001", "extract") == Path("/lake/silver/_spool/S_00001/extract")
    assert spool_folder("/lake", "S/00001", "extract", "math").name == "extract-math"


def test_an_answer_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    begun = datetime.now(UTC)
    writer.write(completion("k1", "Zwei\nZeilen 水 \ud83d"))
    [row], sizes = read_spool(tmp_path)  # not closed: as if the process had been killed
    assert begun <= row.pop("answered_at") <= datetime.now(UTC)
    assert row == {
        "completion_key": "k1", "slice": "S/00001", "stage": "extract", "model": "m", "answered_by": "served",
        "text": "Zwei\nZeilen 水 \ud83d", "finish_reason": "stop", "prompt_tokens": 100, "cached_tokens": 0,
        "completion_tokens": 20, "money": 0.0004, "latency_s": 0.5, "attempts": 1, "error_class": None, "error": None,
    }  # fmt: skip
    assert count_spooled(tmp_path) == 1
    [file] = tmp_path.iterdir()
    assert sizes == {file: file.stat().st_size}
    writer.close()


def test_a_torn_last_line_was_never_answered(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    for key in ("k1", "k2"):
        writer.write(completion(key))
    writer.close()
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    first_end = whole.index(b"\n") + 1
    for cut in (first_end, first_end + 1, len(whole) - 1):
        file.write_bytes(whole[:cut])
        assert [row["completion_key"] for row in read_spool(tmp_path)[0]] == ["k1"]
        assert count_spooled(tmp_path) == 1
    file.write_bytes(b"")
    assert read_spool(tmp_path) == ([], {file: 0})


def test_the_first_answer_of_a_key_wins(tmp_path: Path) -> None:
    for name, texts in (("b", ["late", "later"]), ("a", ["early", "again"])):
        rows = [
            {"completion_key": "k1", "text": text, "answered_at": "2026-11-01T00:00:00+00:00"} for text in texts
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["text"] for row in read_spool(tmp_path)[0]] == ["early"]


def test_a_stragglers_file_waits_for_the_next_fold(tmp_path: Path) -> None:
    done, straggler = open_writer(tmp_path), open_writer(tmp_path)
    done.write(completion("k1"))
    straggler.write(completion("k2"))
    done.close()
    rows, sizes = read_spool(tmp_path)
    straggler.write(completion("k3"))
    clear_spool(sizes)
    assert {row["completion_key"] for row in rows} == {"k1", "k2"}
    assert {row["completion_key"] for row in read_spool(tmp_path)[0]} == {"k2", "k3"}
    straggler.close()
    clear_spool(read_spool(tmp_path)[1])
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_an_empty_spool(tmp_path: Path) -> None:
    assert read_spool(tmp_path / "none") == ([], {})
    assert count_spooled(tmp_path / "none") == 0
