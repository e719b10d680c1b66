"""Calls of several processes at a real endpoint that refuses what is beyond its limits."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from endpoint_process import EndpointProcess

from persona_hub.errors import BudgetReached, LakeError
from persona_hub.llm.admission import SharedAdmission, open_admission
from persona_hub.llm.budget import MoneyMeter
from persona_hub.llm.limits import Room
from persona_hub.llm.pricing import Price, bound_cost
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import BudgetSettings, LlmSettings
from persona_hub.tables.shared_state import SharedState, name_holder

PRICE = Price(input=1.0, output=1.0)  # a token costs a millionth
REQUEST = Request("m", [{"role": "user", "content": "x" * 28}], {"max_tokens": 400})
BOUND = bound_cost(REQUEST, PRICE)  # 64 + 8 + 28 + 400 tokens
ANSWER = Completion("k", "A baker", "stop", 40, 0, 60, 0.1, 1)
NO_USAGE = Completion("k", None, None, None, None, None, 0.1, 2, maybe_paid=1, error_class="timeout")

# A client of a few lines, so that a process starts quickly: one connection a call, answers counted by their status.
CALL = """
import asyncio, json, sys
from collections import Counter
from persona_hub.llm.admission import open_admission
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import BudgetSettings, LlmSettings

async def send(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": request.model, "messages": request.messages}).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    answer = json.loads(await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0])))
    writer.close()
    return int(head.split()[1]), answer

async def ask(admission, port, number, window, seen):
    request = Request("m", [{"role": "user", "content": f"{sys.argv[5]} {number}"}], {"max_tokens": 100})
    async with window:
        ticket = await admission.admit(request)
        try:
            status, answer = await send(port, request)
        finally:
            use = answer["usage"] if status == 200 else {"prompt_tokens": None, "completion_tokens": None}
            admission.settle(ticket, Completion("k", "x", "stop", cached_tokens=0, latency_s=0.1, attempts=1,
                prompt_tokens=use["prompt_tokens"], completion_tokens=use["completion_tokens"]))
        seen[status] += 1
        print(status, flush=True)

async def main():
    port, settings = int(sys.argv[2]), LlmSettings(**json.loads(sys.argv[3]))
    admission = open_admission(sys.argv[1], settings, BudgetSettings(), None, run_id=sys.argv[5], stage="s")
    window, seen = asyncio.Semaphore(32), Counter()
    await asyncio.gather(*(ask(admission, port, number, window, seen) for number in range(int(sys.argv[4]))))
    admission.close()
    print(json.dumps(seen))

asyncio.run(main())
"""


def start_calls(lake: Path, endpoint: EndpointProcess, calls: int, name: str, **limits: int) -> subprocess.Popen[str]:
    settings = json.dumps({"base_url": endpoint.url} | limits)
    return subprocess.Popen(
        [sys.executable, "-c", CALL, str(lake), str(endpoint.port), settings, str(calls), name],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def read_end(run: subprocess.Popen[str]) -> dict[str, int] | int:
    """The counts of its answers by status; of a killed one the last status."""
    with run:
        assert run.stdout
        return json.loads(run.stdout.read().splitlines()[-1])


def test_runs_side_by_side_never_exceed_the_limit_of_calls_in_flight(tmp_path: Path, endpoint: EndpointProcess) -> None:
    endpoint.control(latency_s=0.05, jitter=0.3, max_in_flight=6)
    doomed = start_calls(tmp_path, endpoint, 10_000, "doomed", max_in_flight=6)
    assert doomed.stdout and doomed.stdout.readline() == "200\n"
    runs = [start_calls(tmp_path, endpoint, calls, name, max_in_flight=6) for name, calls in (("a", 60), ("b", 15))]
    assert runs[1].stdout and runs[1].stdout.readline() == "200\n"
    doomed.kill()
    ends = [read_end(run) for run in [*runs, doomed]][:2]
    assert ends == [{"200": 60}, {"200": 15}]
    stats = endpoint.stats()
    assert (stats["refused"], stats["most_in_flight"]) == (0, 6)


def test_runs_side_by_side_never_exceed_the_limit_of_requests_a_minute(
    tmp_path: Path, endpoint: EndpointProcess
) -> None:
    endpoint.control(latency_s=0.02)
    began = time.monotonic()
    runs = [start_calls(tmp_path, endpoint, 20, name, requests_per_minute=1_200) for name in ("a", "b")]
    assert [read_end(run) for run in runs] == [{"200": 20}, {"200": 20}]
    # Three at once, and then twenty a second, whenever they began.
    assert endpoint.stats()["answered"] == 40 <= 3 + 20 * (time.monotonic() - began)


def open_one(lake: Path, limits: dict[str, object] | None = None, **budget: float) -> SharedAdmission:
    settings = LlmSettings.model_validate({"base_url": "http://127.0.0.1:1/v1"} | (limits or {}))
    admission = open_admission(str(lake), settings, BudgetSettings(**budget), PRICE, run_id="r", stage="S/1/extract")
    assert admission
    return admission


def count_spent(lake: Path, **budget: float) -> str:
    """What a call that costs more than any line is told."""
    meter = MoneyMeter(str(lake), BudgetSettings(**budget), "r", "S/1/extract", name_holder(), 60.0)
    return str(meter.exchange({}, {}, meter.find_scopes(), [1e9])[1])


def test_nothing_is_opened_where_nothing_is_limited(tmp_path: Path) -> None:
    settings = LlmSettings(base_url="http://127.0.0.1:1/v1")
    threads = threading.active_count()
    assert open_admission(str(tmp_path), settings, BudgetSettings(), None, run_id="r", stage="s") is None
    assert (list(tmp_path.iterdir()), threading.active_count()) == ([], threads)


def test_spends_up_to_the_line_what_calls_truly_cost(tmp_path: Path) -> None:
    """A call may cost 500 millionths and costs 100: the line of 2,000 is reached after 16 of them, not after 4."""

    async def spend() -> int:
        admission, paid = open_one(tmp_path, per_run=0.002), 0

        async def call() -> None:
            nonlocal paid
            ticket = await admission.admit(REQUEST)
            await asyncio.sleep(0.001)
            admission.settle(ticket, ANSWER)
            paid += 1

        outcomes = await asyncio.gather(*(call() for _ in range(40)), return_exceptions=True)
        admission.close()
        told = {type(outcome) for outcome in outcomes if outcome is not None}
        assert told == {BudgetReached}
        assert "per_run is reached: 0.0016 of 0.002 spent in run:r" in str(outcomes[-1])
        return paid

    assert pytest.approx(0.0005) == BOUND
    assert asyncio.run(spend()) == 16


def test_counts_what_came_of_each_call(tmp_path: Path) -> None:
    async def call() -> None:
        admission = open_one(tmp_path, per_stage=1.0)
        tickets = [await admission.admit(REQUEST) for _ in range(4)]
        admission.settle(tickets[0], ANSWER)
        admission.settle(tickets[0], ANSWER)  # twice is once
        admission.settle(tickets[1], NO_USAGE)  # may have been billed
        admission.settle(tickets[2], None)  # refused
        admission.close()  # the fourth never came home

    asyncio.run(call())
    assert "0.0011 of 1 spent in stage:r/S/1/extract" in count_spent(tmp_path, per_stage=1.0)


def test_who_stops_waiting_takes_nothing_along(tmp_path: Path) -> None:
    async def wait() -> None:
        limits: dict[str, object] = {"max_in_flight": 2}
        admission, other = open_one(tmp_path, limits, per_run=1.0), open_one(tmp_path, limits, per_run=1.0)
        held = [await admission.admit(REQUEST) for _ in range(2)]
        waiting = [asyncio.create_task(admission.admit(REQUEST)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
        for ticket in held:
            admission.settle(ticket, None)
        # Cancelled while it is on its way, and when it has been granted but does not know it yet.
        for blocked_s in (0.0, 0.1):
            task = asyncio.create_task(admission.admit(REQUEST))
            await asyncio.sleep(0)
            time.sleep(blocked_s)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        for _ in range(2):
            await asyncio.wait_for(other.admit(REQUEST), 5)
        admission.close()
        other.close()

    asyncio.run(wait())
    # Only what the other one never settled.
    assert "0.001 of 1 spent" in count_spent(tmp_path, per_run=1.0)


def test_who_waits_for_money_takes_no_requests_of_a_limit_per_minute(tmp_path: Path) -> None:
    async def wait() -> None:
        holder = open_one(tmp_path, per_run=1.5 * BOUND)
        ticket = await holder.admit(REQUEST)
        admission = open_one(tmp_path, {"requests_per_minute": 1_200}, per_run=1.5 * BOUND)
        waiting = asyncio.create_task(admission.admit(REQUEST))
        [room] = [file for file in await list_states(tmp_path) if file.name != "money.state"]
        state, deadline = SharedState(room, Room, lambda _: Room()), time.monotonic() + 5
        level = 0.0
        while level < 3.0 and time.monotonic() < deadline:  # the full bucket: a tenth of a second's, and one
            await asyncio.sleep(0.05)
            with state.change() as found:
                level = found.requests.level
        assert (level, waiting.done()) == (3.0, False)
        holder.settle(ticket, None)
        admission.settle(await asyncio.wait_for(waiting, 5), None)
        holder.close()
        admission.close()

    async def list_states(lake: Path) -> list[Path]:
        while len(found := list((lake / "_limits").glob("*.state"))) < 2:
            await asyncio.sleep(0.01)
        return found

    asyncio.run(wait())


def test_who_waits_for_a_limit_holds_no_money_and_is_told_of_no_budget(tmp_path: Path) -> None:
    async def wait() -> None:
        limits: dict[str, object] = {"max_in_flight": 1}
        settings = LlmSettings.model_validate({"base_url": "http://127.0.0.1:1/v1"} | limits)
        holder = open_admission(str(tmp_path), settings, BudgetSettings(), None, run_id="r", stage="s")
        assert holder
        slot = await holder.admit(REQUEST)
        admission = open_one(tmp_path, limits, per_run=1.5 * BOUND)
        dear = replace(REQUEST, parameters={"max_tokens": 4_000})
        waiting = asyncio.create_task(admission.admit(REQUEST))
        await asyncio.sleep(0.1)
        too_dear = asyncio.create_task(admission.admit(dear))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        other = open_one(tmp_path, per_run=1.5 * BOUND)
        other.settle(await asyncio.wait_for(other.admit(REQUEST), 5), None)
        holder.settle(slot, None)
        admission.settle(await asyncio.wait_for(waiting, 5), None)
        with pytest.raises(BudgetReached):
            await asyncio.wait_for(too_dear, 5)
        for one in (holder, admission, other):
            one.close()

    asyncio.run(wait())


def test_closing_gives_slots_back_to_those_who_live(tmp_path: Path) -> None:
    async def take(admission: SharedAdmission) -> None:
        await asyncio.wait_for(asyncio.gather(*(admission.admit(REQUEST) for _ in range(3))), 5)

    for _ in range(3):  # each event loop is another, as in one Spark worker after the other
        admission = open_one(tmp_path, {"max_in_flight": 3, "requests_per_minute": 60_000})
        asyncio.run(take(admission))
        admission.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "call-limits"]


def test_tokens_are_estimated_by_what_answers_used(tmp_path: Path) -> None:
    """A call may use 500 tokens, and uses 100: what is taken for it goes from the one to the other."""

    async def ask() -> None:
        admission = open_one(tmp_path, {"tokens_per_minute": 600_000})
        for _ in range(60):
            admission.settle(await asyncio.wait_for(admission.admit(REQUEST), 5), ANSWER)
        ticket = await admission.admit(REQUEST)
        assert ticket.most_tokens == 500
        assert 100 < ticket.tokens < 115
        admission.close()

    asyncio.run(ask())


def test_what_an_answer_used_beyond_its_estimate_is_owed(tmp_path: Path) -> None:
    async def ask() -> None:
        admission = open_one(tmp_path, {"tokens_per_minute": 600_000})
        ticket = await asyncio.wait_for(admission.admit(REQUEST), 5)
        admission.settle(ticket, replace(ANSWER, completion_tokens=100_000))
        admission.close()
        other = open_one(tmp_path, {"tokens_per_minute": 600_000})
        with pytest.raises(TimeoutError):  # ten seconds' worth
            await asyncio.wait_for(other.admit(REQUEST), 0.3)
        other.close()

    asyncio.run(ask())


def test_a_lake_that_cannot_be_written_fails_the_calls_that_wait(tmp_path: Path) -> None:
    async def ask() -> None:
        admission = open_one(tmp_path, {"max_in_flight": 3})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            with pytest.raises(LakeError, match="cannot be changed .File too large."):
                await asyncio.wait_for(admission.admit(REQUEST), 5)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        await asyncio.wait_for(admission.admit(REQUEST), 5)
        admission.close()

    asyncio.run(ask())
