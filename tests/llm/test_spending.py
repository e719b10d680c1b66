"""What was spent: ledger and waiting spools together, by the lines of the budget."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from paid_lake import make_answer, write_answers

from persona_hub.llm.batch_store import BatchStore
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Completion, Request
from persona_hub.llm.spending import read_spent
from persona_hub.llm.spool import SpoolWriter, spool_folder
from persona_hub.settings import BatchSettings, BudgetSettings, Settings, load_settings
from persona_hub.tables.silver import COMPLETIONS

NOW = datetime(2026, 11, 22, 20, 30, tzinfo=UTC)
SLICE = "CC-MAIN-2026-30/00001"
STAGE = ("synthesize_samples", "math")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"PERSONA_HUB_HOME": str(tmp_path)})


def paid(number: int, money: float | None, at: datetime, **changes: Any) -> dict[str, Any]:
    request = Request("m", [], sample=number)
    return make_answer(request, changes.pop("slice", SLICE), money=money, answered_at=at, **changes)


def read(settings: Settings, now: datetime = NOW, run_id: str = "now") -> dict[str, float]:
    return read_spent(settings.lake, run_id, SLICE, *STAGE, now)


def test_each_line_counts_its_own(settings: Settings) -> None:
    assert read(settings) == dict.fromkeys(BudgetSettings.model_fields, 0.0)
    today, month = NOW - timedelta(hours=20), NOW - timedelta(days=20)
    write_answers(
        settings,
        [
            paid(1, 1.0, today, run_id="now"),
            paid(2, 2.0, today, run_id="now", data_type="logic"),
            paid(3, 4.0, today, run_id="now", stage="extract_candidates", data_type=""),
            paid(4, 8.0, today, run_id="now", slice="CC-MAIN-2026-30/00002"),
            paid(5, 16.0, today),
            paid(6, 32.0, month),
            paid(7, 64.0, NOW - timedelta(days=22)),
            paid(8, 128.0, NOW - timedelta(days=22), run_id="now"),
            paid(9, None, today, run_id="now"),
        ],
    )
    assert read(settings) == {
        "per_run": 1 + 2 + 4 + 8 + 128,
        "per_stage": 1 + 128,
        "per_day": 1 + 2 + 4 + 8 + 16,
        "per_month": 1 + 2 + 4 + 8 + 16 + 32,
    }


def test_the_day_is_utcs(settings: Settings) -> None:
    write_answers(settings, [paid(1, 1.0, datetime(2026, 11, 21, 23, 59, tzinfo=UTC))])
    write_answers(settings, [paid(2, 2.0, datetime(2026, 11, 22, 0, 0, tzinfo=UTC))])
    here = datetime(2026, 11, 23, 1, tzinfo=timezone(timedelta(hours=9)))  # in UTC still the 22nd
    assert read(settings, here)["per_day"] == 2.0


def test_what_waits_in_any_spool_counts(settings: Settings) -> None:
    for slice_key, stage, data_type, run_id in (
        (SLICE, *STAGE, "now"),
        ("CC-MAIN-2026-30/00002", "extract_candidates", "", "other"),
    ):
        fields = {"slice": slice_key, "stage": stage, "data_type": data_type, "run_id": run_id}
        writer = SpoolWriter(
            spool_folder(settings.lake, slice_key, stage, data_type),
            fields | {"prompt_hash": "", "model": "m"},
            Price(input=1_000_000, output=0),
        )
        first, second = slice_key[-1] * 64, "a" + slice_key[-1] * 63
        writer.write(Completion(first, "t", "stop", 3, None, 1, 0.1, 1))
        writer.write(Completion(second, "t", "stop", None, None, None, 0.1, 1))
        writer.close()
    # The spool is dated when it is written.
    assert read(settings, datetime.now(UTC)) == {"per_run": 3.0, "per_stage": 3.0, "per_day": 6.0, "per_month": 6.0}


def spool(settings: Settings, key: str, slice_key: str = SLICE) -> Path:
    """One answer that waits, of money 3."""
    fields = {"slice": slice_key, "stage": STAGE[0], "data_type": STAGE[1], "run_id": "now"}
    folder = spool_folder(settings.lake, slice_key, *STAGE)
    writer = SpoolWriter(folder, fields | {"prompt_hash": "", "model": "m"}, Price(input=1_000_000, output=0))
    writer.write(Completion(key, "t", "stop", 3, None, 1, 0.1, 1))
    writer.close()
    return writer.path


def test_an_answer_that_is_found_in_spool_and_ledger_counts_once(settings: Settings) -> None:
    now, request = datetime.now(UTC), Request("m", [])
    write_answers(settings, [make_answer(request, SLICE, money=3.0, answered_at=now, run_id="now"), paid(1, 4.0, now)])
    spool(settings, request.key)
    assert read(settings, datetime.now(UTC)) == {"per_run": 3.0, "per_stage": 3.0, "per_day": 7.0, "per_month": 7.0}


def test_what_is_folded_meanwhile_is_not_missed(settings: Settings) -> None:
    """A pipe in place of a spool: the reader waits at it until its answer is in the ledger."""
    folder = spool_folder(settings.lake, SLICE, *STAGE)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "w-1.jsonl")

    def fold() -> None:
        with (folder / "w-1.jsonl").open("wb"):
            write_answers(settings, [paid(1, 3.0, NOW)])

    write_answers(settings, [paid(2, 4.0, NOW)])
    folding = threading.Thread(target=fold)
    folding.start()
    assert read(settings)["per_day"] == 7.0
    folding.join()


def test_spools_that_are_gone_or_of_a_newer_version_stop_nobody(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    spool(settings, "0" * 64)
    (spool_folder(settings.lake, SLICE, *STAGE) / "a-folded.jsonl").symlink_to("nowhere")
    newer = spool(settings, "1" * 64, "CC-MAIN-2026-30/00002")
    line = json.loads(newer.read_text())
    newer.write_text(json.dumps(line) + "\n" + json.dumps(line | {"v": 99, "completion_key": "2" * 64}) + "\n")
    assert read(settings, datetime.now(UTC))["per_day"] == 6.0
    [warning] = caplog.messages
    assert "does not count as spent" in warning and f"{newer} holds answers of version 99" in warning


def test_an_open_batch_counts_as_of_now_until_it_is_closed(settings: Settings) -> None:
    store = BatchStore(settings.lake, SLICE, *STAGE)
    fields = {"slice": SLICE, "stage": STAGE[0], "data_type": STAGE[1], "run_id": "now"}
    requests = [Request("m", [], sample=number) for number in range(4)]
    store.freeze(iter(requests), "http://a.example", fields, (), BatchSettings(), 0.5)
    [intent] = store.list_open()
    assert read(settings) == dict.fromkeys(BudgetSettings.model_fields, 0.0)  # not asked for yet
    asked = replace(intent, asked_at=(NOW - timedelta(days=40)).timestamp())
    store.save(asked)
    assert read(settings) == dict.fromkeys(BudgetSettings.model_fields, 2.0)
    assert read(settings, run_id="other") == {"per_run": 0.0, "per_stage": 0.0, "per_day": 2.0, "per_month": 2.0}
    store.close(replace(asked, outcome="completed"))
    assert read(settings) == dict.fromkeys(BudgetSettings.model_fields, 0.0)


def test_last_months_files_are_not_opened(settings: Settings) -> None:
    write_answers(settings, [paid(1, 1.0, NOW - timedelta(days=40), run_id="a")])
    old = set(Path(COMPLETIONS.path(settings.lake)).glob("*.parquet"))
    write_answers(settings, [paid(2, 2.0, NOW)])
    for file in old:
        file.unlink()
    assert DeltaTable(COMPLETIONS.path(settings.lake)).version() == 1
    assert read(settings)["per_month"] == 2.0


def test_long_run_ids_whose_statistics_are_cut_are_found(settings: Settings) -> None:
    run_id = "manual__2026-11-05T00:00:00+00:00__CC-MAIN-2026-30.00001__0011aabb"
    write_answers(settings, [paid(1, 1.0, NOW - timedelta(days=40), run_id=run_id)])
    assert read(settings, run_id=run_id)["per_run"] == 1.0
