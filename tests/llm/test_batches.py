"""Batches from end to end, at a real endpoint on the loopback interface, with processes that die between the steps."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from endpoint_process import EndpointProcess

from persona_hub.errors import BudgetReached, ModelMisconfigured, ModelUnavailable, SettingsError
from persona_hub.llm import batch_api, batches
from persona_hub.llm.batch_api import BatchApi, NoRoom
from persona_hub.llm.batch_results import Harvest, read_line, write_results
from persona_hub.llm.batch_store import BatchStore, find_open_keys
from persona_hub.llm.batches import Batches, open_batches
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Completion, Request
from persona_hub.llm.spool import SpoolWriter, read_spool, spool_folder
from persona_hub.settings import BatchSettings, BudgetSettings, LlmSettings

SLICE, STAGE = "S/00001", "extract_candidates"
KEY = "sk-secret-4711"
SECRETS = (KEY, "pass%2Fword", "pass/word", "dXNlcjpwYXNzL3dvcmQ")
FIELDS = {"slice": SLICE, "stage": STAGE, "data_type": "", "run_id": "r1", "prompt_hash": "h", "model": "m"}
NO_BUDGET = BudgetSettings()
PRICE = Price(input=2.0, output=10.0, batch_discount=0.5)


@pytest.fixture(scope="module")
def server() -> Iterator[EndpointProcess]:
    process = EndpointProcess().start()
    yield process
    process.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch, server: EndpointProcess) -> None:
    monkeypatch.setattr(batches, "APPEARS_S", 0.3)
    monkeypatch.setattr(batch_api, "RETRIES", 0)
    server.reset()
    server.control(batch_s=0.05)


@pytest.fixture
def ask(tmp_path: Path, server: EndpointProcess) -> Callable[..., AbstractContextManager[Batches]]:
    def open_them(
        url: str = "", budget: BudgetSettings = NO_BUDGET, slice_key: str = SLICE, **limits: Any
    ) -> AbstractContextManager[Batches]:
        endpoint = LlmSettings(base_url=url or server.url, api_key=KEY, model="m")  # type: ignore[arg-type]
        return open_batches(str(tmp_path), slice_key, STAGE, "", endpoint, BatchSettings(**limits), budget)

    return open_them


def make_requests(count: int) -> list[Request]:
    return [Request("m", [{"role": "user", "content": f"Page {number:04d} \ud83d"}]) for number in range(count)]


def start(opened: Batches, requests: list[Request]) -> list[str]:
    opened.freeze(iter(requests), FIELDS, ("seed",))
    return opened.submit()


def collect(opened: Batches) -> Harvest:
    """Looks until nothing runs any more."""
    harvest = opened.collect(lambda model: PRICE)
    while not harvest.faults and opened._list_submitted():
        time.sleep(0.02)
        more = opened.collect(lambda model: PRICE)
        more.batches, more.answered = more.batches + harvest.batches, more.answered + harvest.answered
        more.kept, more.left = more.kept + harvest.kept, more.left + harvest.left
        more.money = (more.money or 0.0) + (harvest.money or 0.0)
        harvest = more
    return harvest


def read_answers(lake: Path) -> dict[str, dict[str, Any]]:
    rows, _ = read_spool(spool_folder(str(lake), SLICE, STAGE))
    return {row["completion_key"]: row for row in rows}


def test_all_is_bought_in_files_within_the_limits_at_the_discount(
    ask: Any, tmp_path: Path, server: EndpointProcess
) -> None:
    requests = make_requests(25)
    with ask(max_requests=10) as opened:
        waiting = start(opened, [*requests, requests[3]])
        harvest = collect(opened)
    stats = server.stats()
    assert len(waiting) == stats["batches"] == 3
    assert (stats["calls"], stats["batch_lines_answered"], stats["duplicates"]) == (0, 25, 0)
    assert (harvest.batches, harvest.answered, harvest.kept, harvest.left) == (3, 25, {}, {})
    rows = read_answers(tmp_path)
    assert set(rows) == {request.key for request in requests}
    row = rows[requests[7].key]
    assert {name: row[name] for name in FIELDS} == FIELDS
    assert (row["text"], row["finish_reason"], row["answered_by"]) == ("A reader of Page 0007 �", "stop", "m")
    assert (row["latency_s"], row["attempts"], row["error_class"]) == (0.0, 1, None)
    assert row["money"] == pytest.approx((row["prompt_tokens"] * 2.0 + row["completion_tokens"] * 10.0) / 2e6)
    assert harvest.money == pytest.approx(sum(row["money"] for row in rows.values()))
    store = BatchStore(str(tmp_path), SLICE, STAGE)
    assert store.list_open() == [] and [file.suffix for file in store.folder.iterdir()] == [".json"] * 3


def test_a_line_asks_what_a_call_would_ask(ask: Any, tmp_path: Path) -> None:
    request = Request("m", [{"role": "user", "content": "x"}], {"max_tokens": 5}, {"type": "object"}, attempt=1)
    with ask() as opened:
        opened.freeze(iter([request]), FIELDS, ("json_schema", "seed"))
    [file] = tmp_path.rglob("*.requests.jsonl")
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    assert json.loads(file.read_text()) == {
        "custom_id": request.key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "messages": [{"role": "user", "content": "x"}],
            "seed": request.seed,
            "max_tokens": 5,
            "response_format": {"type": "json_schema", "json_schema": schema},
        },
    }


def test_files_keep_within_their_bytes_and_what_fits_in_none_is_left_to_calls(ask: Any, tmp_path: Path) -> None:
    requests = make_requests(10)
    requests[4] = Request("m", [{"role": "user", "content": "x" * 2_000}])
    with ask(max_bytes=1_000) as opened:
        opened.freeze(iter(requests), FIELDS, ())
    files = list(tmp_path.rglob("*.requests.jsonl"))
    assert len(files) > 2 and all(file.stat().st_size <= 1_000 for file in files)
    frozen = [json.loads(line)["custom_id"] for file in files for line in file.open()]
    assert sorted(frozen) == sorted(request.key for request in requests if request is not requests[4])


def test_another_run_waits_for_the_same_batch_and_asks_only_what_is_new(ask: Any, server: EndpointProcess) -> None:
    server.control(batch_s=0.3)
    with ask() as opened:
        first = start(opened, make_requests(5))
    with ask() as opened:
        assert start(opened, make_requests(5)) == first
    with ask() as opened:
        second = start(opened, make_requests(8))
        assert second[:1] == first and len(second) == 2
        assert collect(opened).answered == 8
    assert (server.stats()["batches"], server.stats()["duplicates"]) == (2, 0)


def test_a_batch_whose_reply_is_lost_is_found(ask: Any, server: EndpointProcess) -> None:
    server.control(drop_batch_reply=True)
    with ask() as opened:
        assert len(start(opened, make_requests(4))) == 1
        assert collect(opened).answered == 4
    assert server.stats()["batches"] == 1


# A batch is saved five times: frozen, uploaded, asked for, submitted, closed.
KILLS = [("save", number, when) for number in range(1, 6) for when in ("before", "after")] + [("write", 3, "after")]


@pytest.mark.parametrize(("what", "number", "when"), KILLS)
def test_killed_anywhere_it_is_bought_once(
    ask: Any, tmp_path: Path, server: EndpointProcess, what: str, number: int, when: str
) -> None:
    requests = make_requests(6)

    def run_and_die() -> None:
        die_at(BatchStore if what == "save" else SpoolWriter, what, number, when)
        with ask() as opened:
            start(opened, requests)
            collect(opened)

    assert run_in_processes(run_and_die) == [-signal.SIGKILL]
    answered = read_answers(tmp_path)
    with ask() as opened:
        start(opened, [request for request in requests if request.key not in answered])
        collect(opened)
    stats = server.stats()
    assert (stats["batches"], stats["batch_lines_answered"]) == (1, 6)
    assert set(read_answers(tmp_path)) == {request.key for request in requests}
    assert BatchStore(str(tmp_path), SLICE, STAGE).list_open() == []
    assert [file for file in tmp_path.rglob("_batches/**/*") if file.is_file() and file.suffix != ".json"] == []


def test_two_runs_at_once_buy_once(ask: Any, server: EndpointProcess) -> None:
    def read_slowly() -> Iterator[Request]:
        time.sleep(0.1)
        yield from make_requests(6)

    def run() -> None:
        with ask() as opened:
            opened.freeze(read_slowly(), FIELDS, ())
            opened.submit()

    assert run_in_processes(run, run) == [0, 0]
    assert server.stats()["batches"] == 1


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_what_a_broken_batch_left_stays_pending(
    ask: Any, tmp_path: Path, server: EndpointProcess, outcome: str
) -> None:
    server.control(batch_outcome=outcome, batch_done_share=0.6, batch_line_errors=[0, [1, 500], [2, 401]])
    requests = make_requests(10)
    with ask() as opened:
        start(opened, requests)
        harvest = collect(opened)
    assert (harvest.answered, harvest.kept) == (3, {"context_length": 1})
    assert harvest.left == {"overloaded": 1, "unauthorized": 1, f"batch_{outcome}": 4}
    harvest.raise_faults()
    rows = read_answers(tmp_path)
    assert set(rows) == {requests[number].key for number in (0, 3, 4, 5)}
    kept = rows[requests[0].key]
    assert (kept["text"], kept["error_class"], kept["money"]) == (None, "context_length", 0.0)
    server.control(batch_outcome="completed", batch_line_errors=[])
    with ask() as opened:  # a later run asks for the rest
        start(opened, [request for request in requests if request.key not in rows])
        assert collect(opened).answered == 6
    assert set(read_answers(tmp_path)) == {request.key for request in requests}
    assert server.stats()["duplicates"] == 0


def test_a_batch_that_is_refused_as_a_whole_says_why_and_is_forgotten(
    ask: Any, tmp_path: Path, server: EndpointProcess
) -> None:
    server.control(batch_outcome="failed")
    with ask() as opened:
        start(opened, make_requests(3))
        harvest = collect(opened)
    with pytest.raises(ModelMisconfigured, match="refused batch batch_.+: invalid_request: scripted"):
        harvest.raise_faults()
    assert read_answers(tmp_path) == {}
    server.control(batch_outcome="completed")
    with ask() as opened:
        assert len(start(opened, make_requests(3))) == 1
        assert collect(opened).answered == 3


def test_what_there_was_no_room_for_is_asked_for_after_the_others(
    ask: Any, tmp_path: Path, server: EndpointProcess
) -> None:
    server.control(batch_script=[200, 429])
    with ask(max_requests=2) as opened:
        assert len(start(opened, make_requests(6))) == 1
        assert collect(opened).answered == 2
        assert len(opened.submit()) == 2
        assert collect(opened).answered == 4
    assert len(read_answers(tmp_path)) == 6
    assert (server.stats()["batches"], server.stats()["duplicates"]) == (3, 0)


def test_no_room_at_all_is_worth_another_try_later(ask: Any, server: EndpointProcess) -> None:
    server.control(batch_script=[429])
    with ask() as opened, pytest.raises(ModelUnavailable, match="makes no batch: HTTP 429.+room for it"):
        start(opened, make_requests(3))
    server.control(batch_outcome="failed", batch_problem="token_limit_exceeded")
    with ask() as opened:
        start(opened, make_requests(3))
        time.sleep(0.1)
        harvest = opened.collect(lambda model: PRICE)
        harvest.raise_faults()
        assert (harvest.no_room, harvest.batches) == (1, 0)
        server.control(batch_outcome="completed")
        opened.submit()
        assert collect(opened).answered == 3
    assert server.stats()["batches"] == 2


def test_a_refused_batch_is_not_taken_for_the_one_whose_reply_was_lost(
    ask: Any, tmp_path: Path, server: EndpointProcess
) -> None:
    server.control(batch_outcome="failed", batch_problem="token_limit_exceeded")
    with ask() as opened:
        start(opened, make_requests(3))
        time.sleep(0.1)
        assert opened.collect(lambda model: PRICE).no_room == 1
        server.control(batch_outcome="completed", batch_script=[500])
        with pytest.raises(ModelUnavailable, match="No batch of this intent"):
            opened.submit()
        server.control(drop_batch_reply=True)
        [found] = opened.submit()
        assert opened.submit() == [found]
        assert collect(opened).answered == 3
    assert (server.stats()["batches"], server.stats()["duplicates"]) == (2, 0)


def start_priced(opened: Batches, count: int) -> list[str]:
    """A tenth for each request."""
    opened.freeze(iter(make_requests(count)), FIELDS, (), money_each=0.1)
    return opened.submit()


def test_what_other_slices_have_under_way_counts_against_the_budget(ask: Any, server: EndpointProcess) -> None:
    budget = BudgetSettings(per_day=1.0)
    with ask(budget=budget, slice_key="S/00002") as other, ask(budget=budget) as opened:
        assert len(start_priced(other, 6)) == 1
        with pytest.raises(BudgetReached) as raised:
            start_priced(opened, 5)
        told = str(raised.value)
        assert "A batch of 5 requests of extract_candidates over S/00001 will likely cost 0.5000" in told
        assert "0.6000 spent or in open batches, PERSONA_HUB_BUDGET__PER_DAY=1" in told
        assert "raise PERSONA_HUB_BUDGET__PER_DAY" in told
        assert server.stats()["batches"] == 1
        assert collect(other).answered == 6  # and now it counts as what it cost: much less
        assert len(opened.submit()) == 1


def test_of_batches_asked_for_at_once_so_many_as_the_budget_allows(
    ask: Any, tmp_path: Path, server: EndpointProcess
) -> None:
    server.control(batch_s=30)
    writer = SpoolWriter(spool_folder(str(tmp_path), "S/00009", STAGE), FIELDS, None)
    for number in range(10_000):  # so that looking at what was spent takes a while
        writer.write(Completion(f"{number:064x}", "t", "stop", 1, 0, 1, 0.1, 1))
    writer.close()

    def run(number: int) -> None:
        with ask(budget=BudgetSettings(per_month=1.3), slice_key=f"S/{number:05d}") as opened:
            start_priced(opened, 6)

    codes = run_in_processes(*(partial(run, number) for number in range(5)))
    assert sorted(codes) == [0, 0, 1, 1, 1]
    assert server.stats()["batches"] == 2


def test_batches_that_the_budget_has_no_room_for_wait_for_those_that_are_asked_for(
    ask: Any, tmp_path: Path, server: EndpointProcess
) -> None:
    with ask(budget=BudgetSettings(per_stage=0.5), max_requests=2) as opened:
        assert len(start_priced(opened, 6)) == 2
        assert collect(opened).answered == 4
        assert len(opened.submit()) == 1
        assert collect(opened).answered == 2
    assert len(read_answers(tmp_path)) == 6 and server.stats()["batches"] == 3


def test_what_the_provider_did_not_take_is_not_spent(ask: Any, server: EndpointProcess) -> None:
    budget = BudgetSettings(per_run=1.0)
    server.control(batch_script=[429])
    with ask(budget=budget, slice_key="S/00002") as refused, pytest.raises(NoRoom):
        start_priced(refused, 6)
    with ask(budget=budget) as opened:
        assert len(start_priced(opened, 6)) == 1
    # Asked for, and nobody knows whether it was made: it may cost.
    server.control(batch_script=[500])
    with ask(budget=budget, slice_key="S/00003") as unsure, pytest.raises(ModelUnavailable):
        start_priced(unsure, 3)
    with ask(budget=budget, slice_key="S/00004") as late, pytest.raises(BudgetReached, match=r"0\.9000 spent"):
        start_priced(late, 2)
    with ask(budget=budget, slice_key="S/00003") as unsure:  # it counts already, and not twice
        assert len(unsure.submit()) == 1


def test_open_keys_are_those_that_may_be_paid_for(ask: Any, tmp_path: Path, server: EndpointProcess) -> None:
    requests = make_requests(4)
    assert find_open_keys(str(tmp_path), SLICE, STAGE) == {}
    server.control(batch_script=[200, 500])
    with ask(max_requests=2) as opened:
        with pytest.raises(ModelUnavailable):
            start(opened, [*requests, *make_requests(6)[4:]])
        store = BatchStore(str(tmp_path), SLICE, STAGE)
        first, second, _ = store.list_open()
        folder = tmp_path / "silver/_batches/S_00001/extract_candidates"
        assert find_open_keys(str(tmp_path), SLICE, STAGE) == {
            **{request.key: f"batch {first.batch_id} ({folder}/{first.id}.json)" for request in requests[:2]},
            **{
                request.key: f"batch of intent {second.id} ({folder}/{second.id}.json)" for request in requests[2:]
            },
        }
        opened.submit()
        collect(opened)
    assert find_open_keys(str(tmp_path), SLICE, STAGE) == {}


def test_a_billed_line_without_a_choice_is_a_failure_with_its_tokens_and_money(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 40, "completion_tokens": 60, "prompt_tokens_details": {"cached_tokens": 0}}
    keys = {"a" * 64: usage, "b" * 64: None}
    lines = [
        json.dumps({"custom_id": key, "response": {"status_code": 200, "body": {"choices": [], "usage": told}}}).encode()
        for key, told in keys.items()
    ]
    writer = SpoolWriter(spool_folder(str(tmp_path), SLICE, STAGE), FIELDS, PRICE, batch=True)
    results = write_results((read_line(line, []) for line in lines), set(keys), writer, "batch b")
    writer.close()
    assert (results.answered, results.kept, results.left) == (0, {"no_choice": 1}, {"no_choice": 1})
    [row] = read_answers(tmp_path).values()
    money = (40 * 2.0 + 60 * 10.0) / 2e6
    names = ("completion_key", "text", "error_class", "prompt_tokens", "completion_tokens", "maybe_paid", "money")
    assert [row[name] for name in names] == ["a" * 64, None, "no_choice", 40, 60, 1, pytest.approx(money)]


def test_a_broken_answer_is_no_reason_to_ask_again_at_once(ask: Any, server: EndpointProcess) -> None:
    server.control(batch_script=[500])
    with ask() as opened, pytest.raises(ModelUnavailable, match="HTTP 500 .+No batch of this intent .+ is there"):
        start(opened, make_requests(3))
    with ask() as opened:
        assert len(start(opened, make_requests(3))) == 1
    assert server.stats()["batches"] == 1


def test_where_most_lines_fail_no_failure_is_recorded(ask: Any, tmp_path: Path, server: EndpointProcess) -> None:
    server.control(batch_line_errors=list(range(16)))
    requests = make_requests(30)
    with ask() as opened:
        start(opened, requests)
        harvest = collect(opened)
    assert (harvest.answered, harvest.kept, harvest.left) == (14, {}, {"context_length": 16})
    with pytest.raises(ModelMisconfigured, match="16 of 30 lines of batch .+ failed; last: context_length, HTTP 400"):
        harvest.raise_faults()
    assert set(read_answers(tmp_path)) == {request.key for request in requests[16:]}


def test_a_batch_elsewhere_is_not_asked_for_here(ask: Any, server: EndpointProcess) -> None:
    with ask() as opened:
        [batch] = start(opened, make_requests(3))
    with (
        ask("http://127.0.0.1:9/v1") as opened,
        pytest.raises(SettingsError, match=f"Batch {batch} belongs to {server.url}.+set that address until then"),
    ):
        start(opened, make_requests(3))


def test_what_was_never_asked_for_is_thrown_away(ask: Any, tmp_path: Path, server: EndpointProcess) -> None:
    with ask("http://127.0.0.1:9/v1") as opened, pytest.raises(ModelUnavailable, match="takes no batch file"):
        start(opened, make_requests(3))
    assert len(list(tmp_path.rglob("*.requests.jsonl"))) == 1
    with ask() as opened:
        assert len(start(opened, make_requests(2))) == 1
        assert collect(opened).answered == 2
    assert server.stats()["batch_lines_answered"] == 2


def test_a_batch_that_is_gone_does_not_hold_up_the_others(ask: Any, tmp_path: Path, server: EndpointProcess) -> None:
    with ask(max_requests=2) as opened:
        gone, *_ = start(opened, make_requests(4))
        for file in tmp_path.rglob("*.json"):
            if gone in (text := file.read_text()):
                file.write_text(text.replace(gone, "batch_gone"))
        time.sleep(0.1)
        harvest = opened.collect(lambda model: PRICE)
    assert (harvest.answered, len(harvest.faults)) == (2, 1)
    with pytest.raises(ModelMisconfigured, match="does not tell of batch batch_gone: HTTP 404.+remov"):
        harvest.raise_faults()


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, '{"error": {"message": "Bad key: %s"}}', ModelMisconfigured, "correct the key"),
        (404, "not here", ModelMisconfigured, "has the batch API"),
        (500, '{"error": {"message": "%s is ill"}}', ModelUnavailable, "see that it is up"),
        (200, "<html>%s</html>", ModelUnavailable, "cannot be read"),
        (200, '{"id": "%s', ModelUnavailable, "cannot be read"),
        (200, "{}", ModelUnavailable, "cannot be read"),
    ],
)
def test_every_answer_is_explained_and_no_message_holds_a_secret(
    status: int, body: str, kind: type[Exception], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []

    class Echo(BaseHTTPRequestHandler):
        """Says back what it was authorized with, as some gateways do."""

        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            content = (body.replace("%s", self.headers["Authorization"])).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if body.startswith("<") else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Echo) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        for user in ("", "user:pass%2Fword@"):  # with a key, and with credentials in the address, which go before it
            endpoint = LlmSettings(base_url=f"http://{user}127.0.0.1:{http.server_port}/v1", api_key=KEY)  # type: ignore[arg-type]
            api = BatchApi(endpoint)
            with pytest.raises(kind, match=says) as caught:
                api.look("batch_1")
            api.close()
            said = "".join(traceback.format_exception(caught.value)) + caplog.text
            assert not [secret for secret in SECRETS if secret in said]
        http.shutdown()
    assert seen == [f"Bearer {KEY}", "Basic dXNlcjpwYXNzL3dvcmQ="]


def die_at(owner: type, name: str, number: int, when: str) -> None:
    """Puts a SIGKILL of this very process before or after the given call of a method."""
    plain, calls = getattr(owner, name), [0]

    def count(self: object, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = plain(self, *args)
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, count)


def run_in_processes(*functions: Callable[[], None]) -> list[int]:
    """Each in a process of its own, all at once; returns exit codes, a signal's number negative."""
    children = []
    for function in functions:
        if (child := os.fork()) == 0:
            code = 1
            try:
                function()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
