"""The entry of every job: what it refuses and how it says so; what a stage leaves behind."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persona_hub.errors import HOPELESS, GateFailed, LeaseHeld
from persona_hub.llm.requests import Request
from persona_hub.spark.asking import ask_all
from persona_hub.spark.job import Job, Tally, run_job
from persona_hub.stages import EXTRACT, get_stage
from persona_hub.tables.counts import fold_counts
from persona_hub.tables.lease import hold_lease

SLICE = "CC-MAIN-2020-50/00001"


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., tuple[int, list[str]]]]:
    """Runs a job as spark-submit would, in this process; its exit code and the errors that it logged."""
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["spark_jobs/some_job.py"])
    kept = signal.getsignal(signal.SIGTERM)

    def run(main: Callable[[Job], None], slice_key: str = SLICE, *more: str) -> tuple[int, list[str]]:
        caplog.clear()
        with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as raised:
            run_job(main, ["--slice", slice_key, "--run", "run 1", *more])
        return raised.value.code, [record.getMessage() for record in caplog.records if record.name == "persona_hub"]

    yield run
    signal.signal(signal.SIGTERM, kept)


def never(job: Job) -> None:
    raise AssertionError("the job began")


@pytest.mark.parametrize(
    ("slice_key", "more", "told"),
    [
        ("CC-MAIN-2020-50", (), "UnknownSlice: 'CC-MAIN-2020-50' is no slice key. Wanted: SNAPSHOT/ORDINAL"),
        (SLICE, ("--type", "poetry"), "RegistryError: No data type 'poetry'. Wanted: one of math, logic, instruction"),
    ],
)
def test_bad_arguments_end_in_one_line(start, slice_key: str, more: tuple[str, ...], told: str) -> None:
    code, [line] = start(never, slice_key, *more)
    assert (code, line.startswith(told)) == (HOPELESS, True)


def test_a_misspelled_setting_ends_in_one_line(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_HUB_DEDUP__WORD", "0.8")
    code, [line] = start(never)
    assert code == HOPELESS
    assert line.startswith("SettingsError: Unknown setting PERSONA_HUB_DEDUP__WORD. Wanted: one of PERSONA_HUB_")


def test_an_error_on_an_executor_ends_in_one_line(start, spark, model_server, answer, monkeypatch) -> None:
    def ask(job: Job) -> None:
        request = Request("m", [{"role": "user", "content": "Hi"}])
        schema = "row_id STRING, endpoint BIGINT, completion_key STRING, request STRING"
        questions = job.spark.createDataFrame([("row", 0, request.key, request.to_json())], schema)
        ask_all(job, get_stage(EXTRACT), questions, Tally())

    monkeypatch.setenv("PERSONA_HUB_LLM__BASE_URL", model_server.url)
    monkeypatch.setenv("PERSONA_HUB_LLM__FEATURES", "[]")
    monkeypatch.setenv("PERSONA_HUB_LLM__MAX_ATTEMPTS", "1")
    monkeypatch.setenv("PERSONA_HUB_LLM__API_KEY", "sk-secret-1")
    model_server.answer_with(answer("", 500))
    code, [line] = start(ask)
    assert (code, line.startswith("ModelUnavailable: The model endpoint")) == (1, True)
    model_server.answer_with(answer("<html>Log in</html>"))
    code, [line] = start(ask)
    assert (code, line.startswith("ModelMisconfigured: The model endpoint")) == (HOPELESS, True)
    assert "answers HTML" in line
    assert "sk-secret-1" not in line


def test_one_run_of_a_slice_at_a_time(start, spark, tmp_path: Path) -> None:
    def run_beside(job: Job) -> None:
        with pytest.raises(LeaseHeld), hold_lease(job.lake, f"run/some_job/{SLICE}/", wait_s=0):
            pass
        with hold_lease(job.lake, "run/some_job/CC-MAIN-2020-50/00002/", wait_s=0):
            raise GateFailed("It was enough")

    code, [line] = start(run_beside)
    assert (code, line) == (HOPELESS, "GateFailed: It was enough.")
    with hold_lease(str(tmp_path / "lake"), f"run/some_job/{SLICE}/", wait_s=0):  # given back
        pass


def test_a_stage_counts_when_it_ends_and_not_when_it_fails(make_job: Callable[..., Job]) -> None:
    job = make_job(SLICE, "math", attempt=3)
    with job.stage("good") as tally:
        tally.rows_in, tally.rows_out, tally.removed = 3, 1, {"echo": 2}
        tally.calls, tally.money = 4, 0.5
    with pytest.raises(ZeroDivisionError), job.stage("bad"):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="stage wrong of CC-MAIN-2020-50/00001 cannot explain its rows: 3 in, 2 out"), job.stage(
        "wrong"
    ) as tally:
        tally.rows_in, tally.rows_out = 3, 2
    [row] = fold_counts(job.lake)
    seen = {name: row[name] for name in ("stage", "data_type", "run_id", "attempt", "rows_removed", "removed", "calls", "money")}
    assert seen == {
        "stage": "good", "data_type": "math", "run_id": "run 1", "attempt": 3, "rows_removed": 2, "removed": {"echo": 2},
        "calls": 4, "money": 0.5,
    }  # fmt: skip
