"""The batch operator and its trigger, as Airflow's worker and triggerer call them, at a real endpoint."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.module_loading import import_string
from airflow.sdk.serde import serialize
from airflow.serialization.decoders import smart_decode_trigger_kwargs
from airflow.triggers.base import TriggerEvent
from endpoint_process import EndpointProcess
from paid_lake import write_personas

from persona_hub.forecast import forecast_stage
from persona_hub.llm.batch_store import BatchStore
from persona_hub.llm.spool import read_spool, spool_folder
from persona_hub.pending import iter_pending
from persona_hub.settings import Settings, load_settings
from persona_hub.stages import SYNTHESIZE, get_stage
from persona_hub_airflow.batch import BatchOperator, BatchTrigger
from persona_hub_airflow.connections import load_model_settings

SLICE, RUN = "CC-MAIN-2026-30/00001", "manual__1"
KEY = "sk-very-secret-4711"
CONTEXT: Any = {"dag_run": SimpleNamespace(partition_key=SLICE, run_id=RUN)}
STAGE = get_stage(SYNTHESIZE, "math")
BATCH = {
    "id": "batch_1",
    "status": "completed",
    "request_counts": {"total": 3, "completed": 3, "failed": 0},
    "errors": None,
    "output_file_id": None,
    "error_file_id": None,
}


@pytest.fixture(scope="module")
def server() -> Iterator[EndpointProcess]:
    process = EndpointProcess().start()
    yield process
    process.close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: EndpointProcess) -> Settings:
    """Twelve personas to be asked about, and Airflow's connection to the endpoint."""
    server.reset()
    server.control(batch_s=0.1)
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path))
    monkeypatch.setenv("PERSONA_HUB_BATCH__POLL_S", "0.03")
    connect(monkeypatch, server.url)
    settings = load_settings()
    write_personas(settings, SLICE, range(12))
    return settings


def connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    extra = {"model": "large", "features": ["seed"]}
    connection = {"conn_type": "generic", "host": url, "password": KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_PERSONA_HUB_LLM", json.dumps(connection))


def make_operator() -> BatchOperator:
    return BatchOperator(task_id="batch_samples", stage=SYNTHESIZE, data_type="math")


def defer(event: dict[str, str] | None = None) -> BatchTrigger:
    """Begins or resumes the task in an operator of its own, as a worker does, up to where it waits."""
    with pytest.raises(TaskDeferred) as deferred:
        if event is None:
            make_operator().execute(CONTEXT)
        else:
            resume(event)
    assert (deferred.value.method_name, deferred.value.kwargs, deferred.value.timeout) == (
        "execute_complete",
        None,
        None,
    )
    return carry_over(deferred.value.trigger)


def resume(event: dict[str, str]) -> None:
    make_operator().resume_execution("execute_complete", {"event": event}, CONTEXT)


def carry_over(trigger: BatchTrigger) -> BatchTrigger:
    """From the worker by the database to the triggerer: Airflow's own ways of writing and reading."""
    classpath, values = trigger.serialize()
    stored = json.dumps(serialize(values))
    assert KEY not in stored + repr(trigger)
    read = {name: smart_decode_trigger_kwargs(value) for name, value in Trigger._decrypt_kwargs(stored).items()}
    assert read == values
    return import_string(classpath)(**read)


def wait(trigger: BatchTrigger) -> dict[str, str]:
    """The trigger's events, as the triggerer gathers them: one, and then it is done."""

    async def gather() -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    [event] = asyncio.run(asyncio.wait_for(gather(), 10))
    return dict(event.payload)


@contextmanager
def serve(answer: Callable[[], tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """An endpoint that answers every GET by a function; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer()
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/v1"
        http.shutdown()


def read_keys(settings: Settings) -> set[str]:
    rows, _ = read_spool(spool_folder(settings.lake, SLICE, SYNTHESIZE, "math"))
    assert {(row["slice"], row["stage"], row["data_type"], row["run_id"]) for row in rows} == {
        (SLICE, SYNTHESIZE, "math", RUN)
    }
    assert {row["prompt_hash"] for row in rows} == {STAGE.load_prompt(settings.llm).hash}
    return {row["completion_key"] for row in rows}


def list_pending(settings: Settings) -> set[str]:
    endpoint = settings.llm.model_copy(update={"model": "large"})
    return {request.key for request in iter_pending(settings.model_copy(update={"llm": endpoint}), SLICE, STAGE)}


def test_what_is_pending_is_bought_and_the_stage_finds_it(
    settings: Settings, server: EndpointProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    pending = list_pending(settings)
    trigger = defer()
    event = wait(trigger)
    assert event == {"seen": f"{trigger.batch_ids[0]} completed, 12 of 12"}
    resume(event)
    assert len(pending) == 12 and read_keys(settings) == pending
    assert list_pending(settings) == set()
    make_operator().execute(CONTEXT)  # cleared and run again: it does not even wait
    stats = server.stats()
    assert (stats["batches"], stats["batch_lines_answered"], stats["calls"]) == (1, 12, 0)
    logged = "".join(capfd.readouterr())
    assert (
        "1 batches ended: 12 answers, money unknown; kept as failures: none; left to be asked by calls: none" in logged
    )
    assert "Nothing is pending: no batch" in logged
    assert KEY not in logged


def test_a_restart_of_worker_and_triggerer_waits_for_the_same_batch(
    settings: Settings, server: EndpointProcess
) -> None:
    server.control(batch_s=0.4)
    first = defer()

    async def be_shut_down() -> None:
        task = asyncio.ensure_future(anext(first.run()))
        await asyncio.sleep(0.1)
        task.cancel()

    asyncio.run(be_shut_down())
    again = defer()  # the task was cleared, or its worker died and it is tried again
    assert again.batch_ids == first.batch_ids
    event = wait(carry_over(again))
    resume(event)
    resume(event)  # a worker died after its work, before Airflow knew
    assert len(read_keys(settings)) == 12
    assert (server.stats()["batches"], server.stats()["duplicates"]) == (1, 0)


def test_what_there_was_no_room_for_is_waited_for_in_turn(
    settings: Settings, server: EndpointProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONA_HUB_BATCH__MAX_REQUESTS", "7")
    server.control(batch_script=[200, 429])
    first = defer()
    second = defer(wait(first))
    assert len(first.batch_ids) == len(second.batch_ids) == 1 and first.batch_ids != second.batch_ids
    resume(wait(second))
    assert len(read_keys(settings)) == 12 and server.stats()["batches"] == 2


def test_where_the_provider_has_no_room_at_all_the_task_waits_and_asks_again(
    settings: Settings, server: EndpointProcess
) -> None:
    server.control(batch_script=[429], batch_outcome="failed", batch_problem="token_limit_exceeded")
    first = defer()
    assert (first.batch_ids, server.stats()["batches"]) == ([], 0)
    event = wait(first)
    assert event == {"seen": "Asking again"}
    second = defer(event)
    assert len(second.batch_ids) == 1
    third = defer(wait(second))  # made, and then refused as a whole: not asked for again at once
    assert (third.batch_ids, server.stats()["batches"]) == ([], 1)
    server.control(batch_outcome="completed")
    resume(wait(defer(wait(third))))
    assert len(read_keys(settings)) == 12
    assert (server.stats()["batches"], server.stats()["duplicates"]) == (2, 0)


def test_the_budget_is_held_against_the_likely_money_before_anything_is_asked_for(
    settings: Settings, server: EndpointProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = '[models."large"]\ninput = 2.0\noutput = 10.0\nbatch_discount = 0.5\n'
    (settings.home / "prices.toml").write_text(prices)
    monkeypatch.setenv("PERSONA_HUB_BUDGET__PER_RUN", "0.005")
    monkeypatch.setenv("PERSONA_HUB_BATCH__STAGES", json.dumps([SYNTHESIZE]))
    made = forecast_stage(load_model_settings(), SLICE, STAGE, RUN, datetime.now(UTC))
    assert made.estimate.money and made.estimate.money.likely > 0.005
    with pytest.raises(AirflowFailException, match="BudgetReached: A batch of 12 requests") as raised:
        make_operator().execute(CONTEXT)
    once = 12 * made.estimate.money.likely / made.estimate.calls.likely
    assert f"will likely cost {once:.4f}, which would pass the budget: 0.0000 spent" in str(raised.value)
    assert server.stats()["batches"] == 0


def test_what_lies_in_an_open_batch_is_estimated_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, server: EndpointProcess
) -> None:
    (settings.home / "prices.toml").write_text('[models."large"]\ninput = 2.0\noutput = 10.0\n')
    monkeypatch.setenv("PERSONA_HUB_BUDGET__PER_DAY", "1")
    before = forecast_stage(load_model_settings(), SLICE, STAGE, RUN, datetime.now(UTC))
    event = wait(defer())
    after = forecast_stage(load_model_settings(), SLICE, STAGE, RUN, datetime.now(UTC))
    assert before.estimate.money and after.estimate.money
    assert (before.estimate.pending.likely, after.estimate.pending.likely) == (12, 0)
    assert (before.lines[0].spent, after.estimate.money.likely) == (0.0, 0.0)
    assert after.lines[0].spent == pytest.approx(before.estimate.money.likely)
    resume(event)
    actual = forecast_stage(load_model_settings(), SLICE, STAGE, RUN, datetime.now(UTC)).lines[0].spent
    rows, _ = read_spool(spool_folder(settings.lake, SLICE, SYNTHESIZE, "math"))
    assert actual == pytest.approx(sum(row["money"] for row in rows)) and actual > 0


def test_expired_lines_are_left_to_the_stage(settings: Settings, server: EndpointProcess) -> None:
    server.control(batch_outcome="expired", batch_done_share=0.5)
    resume(wait(defer()))
    assert len(list_pending(settings)) == 6 and len(read_keys(settings)) == 6


def test_a_refused_batch_fails_with_the_provider_s_words(settings: Settings, server: EndpointProcess) -> None:
    server.control(batch_outcome="failed")
    with pytest.raises(AirflowFailException, match="ModelMisconfigured: .+ refused batch .+ invalid_request: scripted"):
        resume(wait(defer()))


def test_a_batch_that_the_endpoint_forgot_ends_the_waiting(settings: Settings, server: EndpointProcess) -> None:
    trigger = defer()
    server.reset()
    event = wait(trigger)
    assert "does not tell of batch" in event["seen"]
    with pytest.raises(AirflowFailException, match="does not tell of batch .+ HTTP 404"):
        resume(event)
    [intent] = BatchStore(settings.lake, SLICE, SYNTHESIZE, "math").list_open()  # not bought again unasked
    assert intent.batch_id == trigger.batch_ids[0]


def test_a_sick_endpoint_is_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_hub.llm.batch_api.RETRIES", 0)
    script = [(503, {"error": {"message": "ill"}}), (200, BATCH | {"status": "in_progress"}), (429, {}), (200, BATCH)]
    with serve(lambda: script.pop(0)) as url:
        connect(monkeypatch, url)
        assert wait(BatchTrigger(SYNTHESIZE, "math", ["batch_1"], 0.01)) == {"seen": "batch_1 completed, 3 of 3"}
    assert script == []


def test_a_look_does_not_hold_up_other_triggers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint answers only when another coroutine has said so; one that is held up says it too late."""
    monkeypatch.setenv("PERSONA_HUB_LLM__TIMEOUT_S", "2")
    looked, said = threading.Event(), threading.Event()
    answers = []

    def answer() -> tuple[int, dict[str, Any]]:
        looked.set()
        answers.append(said.wait(5))
        return 200, BATCH

    async def run_both() -> None:
        task = asyncio.ensure_future(anext(BatchTrigger(SYNTHESIZE, "math", ["batch_1"], 0.01).run()))
        while not looked.is_set():
            await asyncio.sleep(0.01)
        said.set()
        await task

    with serve(answer) as url:
        connect(monkeypatch, url)
        asyncio.run(run_both())
    assert answers == [True]


def test_a_run_without_a_slice_and_a_missing_connection_say_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AirflowFailException, match="no partition key"):
        make_operator().execute({"dag_run": SimpleNamespace(partition_key=None, run_id=RUN)})  # type: ignore[arg-type]
    with pytest.raises(AirflowFailException, match="partition key .+'../gold' is no slice key.+ such as CC-MAIN"):
        make_operator().execute({"dag_run": SimpleNamespace(partition_key="../gold", run_id=RUN)})  # type: ignore[arg-type]
    monkeypatch.delenv("AIRFLOW_CONN_PERSONA_HUB_LLM")
    with pytest.raises(AirflowFailException, match="There is no connection persona_hub_llm"):
        make_operator().execute(CONTEXT)


def test_it_takes_a_slot_of_the_pool_of_batches() -> None:
    assert make_operator().pool == "llm"
