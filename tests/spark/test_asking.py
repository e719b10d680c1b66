"""The calling stage against a real server on the loopback interface: nothing is asked twice, nothing paid is lost."""

from __future__ import annotations

import json
import resource
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame

from persona_hub.core.verdict import Rejection
from persona_hub.errors import BudgetReached, ModelMisconfigured, ModelUnavailable
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Completion, Request
from persona_hub.llm.spool import SpoolWriter, spool_folder
from persona_hub.spark.asking import ask_all
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.ledger import count_calls
from persona_hub.spark.questions import ask_about
from persona_hub.stages import EXTRACT, get_stage
from persona_hub.tables.silver import COMPLETIONS, QUESTIONS

STAGE = get_stage(EXTRACT)
SOURCES = "source_id STRING, source_text STRING"
MODEL = "served-model"  # as the loopback server calls itself
PRICES = f"[models.{MODEL}]\ninput = 1e6\noutput = 0\n"


@pytest.fixture
def ask_job(make_job: Callable[..., Job], model_server) -> Callable[..., Job]:
    def make(slice_key: str = "S/00001", **changes: Any) -> Job:
        given = {"base_url": model_server.url, "max_attempts": 1, "window": 2, "model": MODEL}
        given |= {"timeout_s": 5, "patience_s": 1} | changes
        return make_job(slice_key, **{name if "__" in name or name == "prices" else f"llm__{name}": value for name, value in given.items()})

    return make


@pytest.fixture
def job(ask_job: Callable[..., Job]) -> Job:
    return ask_job()


def make_request(text: str, **changes: Any) -> Request:
    return Request(**{"model": MODEL, "messages": [{"role": "user", "content": text}]} | changes)


def make_questions(job: Job, *requests: Request | tuple[Request, ...]) -> DataFrame:
    """A row for each; several requests of one row are those of the stage's endpoints."""
    rows = [
        (f"row {number}", place, request.key, request.to_json())
        for number, group in enumerate(requests)
        for place, request in enumerate(group if isinstance(group, tuple) else (group,))
    ]
    schema = "row_id STRING, endpoint BIGINT, completion_key STRING, request STRING"
    return job.spark.createDataFrame(rows, schema)


def ask(job: Job, *requests: Request | tuple[Request, ...]) -> Tally:
    with job.stage(STAGE.name) as tally:
        ask_all(job, STAGE, make_questions(job, *requests), tally)
        count_calls(job, STAGE, tally)
    return tally


def get_folder(job: Job):
    return spool_folder(job.lake, job.slice, STAGE.name)


def open_writer(job: Job, price: Price | None = None) -> SpoolWriter:
    fields = {"slice": job.slice, "stage": STAGE.name, "data_type": "", "run_id": "killed", "prompt_hash": "h", "model": "m"}
    return SpoolWriter(get_folder(job), fields, price)


def read_rows(job: Job) -> list[dict[str, Any]]:
    rows = DeltaTable(COMPLETIONS.path(job.lake)).to_pyarrow_table().to_pylist()
    assert len({(row["slice"], row["completion_key"]) for row in rows}) == len(rows)
    return rows


def read_ledger(job: Job) -> dict[str, str | None]:
    return {row["completion_key"]: row["text"] for row in read_rows(job)}


def count_asked(model_server) -> Counter[str]:
    return Counter(asked["messages"][-1]["content"] for asked in model_server.asked)


def test_each_question_is_asked_once_for_good(job: Job, model_server, answer, chat) -> None:
    model_server.decide = lambda asked: answer(chat("Re: " + asked["messages"][-1]["content"]))
    questions = [make_request(f"q{number}") for number in range(25)]
    tally = ask(job, *questions, questions[3], questions[3])  # three rows that ask the same are one question
    assert count_asked(model_server) == {f"q{number}": 1 for number in range(25)}
    assert tally == Tally(calls=25, prompt_tokens=25 * 11, completion_tokens=25 * 7)  # unpriced: no money, not 0
    assert read_ledger(job) == {question.key: f"Re: q{n}" for n, question in enumerate(questions)}
    assert model_server.most_flying <= 2 * job.settings.llm.window
    assert not get_folder(job).exists()

    version = DeltaTable(COMPLETIONS.path(job.lake)).version()
    assert ask(job, *questions) == Tally(from_ledger=25)
    assert len(model_server.asked) == 25
    assert DeltaTable(COMPLETIONS.path(job.lake)).version() == version

    another = make_request("q0", sample=1)  # the same words, asked for another answer
    assert ask(job, questions[0], another) == Tally(calls=1, from_ledger=1, prompt_tokens=11, completion_tokens=7)
    assert count_asked(model_server)["q0"] == 2


def test_a_copy_in_another_slice_is_found_before_it_is_sent(ask_job: Callable[..., Job], model_server) -> None:
    first, second = ask_job("S/00001"), ask_job("S/00002")
    ask(first, make_request("both"), make_request("one"))
    assert ask(second, make_request("both"), make_request("two")).from_ledger == 1
    assert count_asked(model_server) == {"both": 1, "one": 1, "two": 1}
    assert {(row["slice"], row["completion_key"]) for row in read_rows(first)} == {
        ("S/00001", make_request("both").key), ("S/00001", make_request("one").key),
        ("S/00002", make_request("two").key),
    }  # fmt: skip


def test_what_a_killed_run_left_is_folded_first(ask_job: Callable[..., Job], model_server, tmp_path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    job = ask_job(prices=tmp_path / "prices.toml")
    done, open_ = make_request("done"), make_request("open")
    writer = open_writer(job, Price(1e6, 0))
    writer.write(Completion(done.key, "Answered before.", "stop", 5, None, 2, 0.1, 1))
    writer.write(Completion(open_.key, "Cut", "stop", 5, None, 2, 0.1, 1))
    writer.close()
    writer.path.write_bytes(writer.path.read_bytes()[:-30])  # killed in the middle of a line
    tally = ask(job, done, open_)
    assert count_asked(model_server) == {"open": 1}
    assert read_ledger(job) == {done.key: "Answered before.", open_.key: "Hello."}
    # The killed try's call is counted here: nobody else will.
    assert tally == Tally(calls=2, from_ledger=1, prompt_tokens=5 + 11, completion_tokens=2 + 7, money=5.0 + 11.0)
    assert not get_folder(job).exists()


def test_a_run_that_died_after_its_fold_is_counted_by_the_next(job: Job) -> None:
    with pytest.raises(KeyboardInterrupt), job.stage(STAGE.name) as tally:
        ask_all(job, STAGE, make_questions(job, make_request("q")), tally)
        raise KeyboardInterrupt
    assert ask(job, make_request("q")) == Tally(calls=1, from_ledger=1, prompt_tokens=11, completion_tokens=7)
    assert ask(job, make_request("q")) == Tally(from_ledger=1)


def test_a_fold_that_the_disk_refuses_is_made_good_by_the_next(job: Job, model_server) -> None:
    ask(job, make_request("before"))
    jvm = int(job.spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid())
    limits = resource.prlimit(jvm, resource.RLIMIT_FSIZE)
    resource.prlimit(jvm, resource.RLIMIT_FSIZE, (1024, limits[1]))  # the kernel refuses what is longer
    try:
        with pytest.raises(Exception, match="File too large"):
            ask(job, *(make_request(f"q{number}") for number in range(30)))
    finally:
        resource.prlimit(jvm, resource.RLIMIT_FSIZE, limits)
    asked = len(model_server.asked)
    ask(job, *(make_request(f"q{number}") for number in range(30)))
    assert set(count_asked(model_server).values()) == {1}
    assert len(read_ledger(job)) == len(model_server.asked) == 31 >= asked


def test_a_spool_of_another_version(job: Job, model_server) -> None:
    old, new = make_request("old"), make_request("new")
    folder = get_folder(job)
    folder.mkdir(parents=True)
    line = {
        "slice": job.slice, "stage": STAGE.name, "model": "m", "answered_by": None, "text": "From before.",
        "finish_reason": "stop", "prompt_tokens": 5, "cached_tokens": None, "completion_tokens": 2, "money": None,
        "latency_s": 0.5, "attempts": 1, "error_class": None, "error": None, "answered_at": "2026-11-01T00:00:00+00:00",
    }  # fmt: skip
    (folder / "1-abc.jsonl").write_text(json.dumps(line | {"completion_key": old.key}) + "\nno JSON\n")
    ask(job, old)
    assert read_ledger(job) == {old.key: "From before."}
    assert (folder / "1-abc.broken").read_text() == "no JSON\n"

    (folder / "2-abc.jsonl").write_text(json.dumps(line | {"completion_key": new.key, "v": 9}) + "\n")
    with pytest.raises(Exception, match="holds answers of version 9"):
        ask(job, new)
    assert (folder / "2-abc.jsonl").exists() and not model_server.asked


def test_a_server_that_fails_half_way_costs_nothing_twice(job: Job, model_server, answer, chat) -> None:
    questions = [make_request(f"q{number}") for number in range(12)]
    model_server.answer_with(*[chat("Yes.")] * 5, answer("overloaded", 503))
    with pytest.raises(ModelUnavailable):
        ask(job, *questions)
    first = count_asked(model_server)
    assert len(read_ledger(job)) == 5  # folded, though the stage failed

    model_server.answer_with(chat("Yes."))
    tally = ask(job, *questions)
    assert set(read_ledger(job).values()) == {"Yes."}
    assert set(read_ledger(job)) == {question.key for question in questions}
    assert tally.calls == 12
    # Five were answered before; those refused with 503 were asked again, and no other.
    assert sum(count_asked(model_server).values()) == 12 + sum(first.values()) - 5


def test_one_partition_that_must_stop_loses_no_answer_of_the_other(job: Job, model_server, answer, chat) -> None:
    def decide(asked):
        if asked["messages"][-1]["content"] == "q0":
            return answer(json.dumps({"error": {"message": "wrong key"}}), 401, delay_s=0.2)
        return answer(chat(), delay_s=0.5)

    model_server.decide = decide
    with pytest.raises(ModelMisconfigured, match=r"401 \(wrong key\)"):
        ask(job, *(make_request(f"q{number}") for number in range(60)))
    asked = count_asked(model_server)
    assert len(asked) < 60
    assert len(read_ledger(job)) == len(asked) - 1, "what flew when the first partition failed came home"


def test_a_server_that_is_down(ask_job: Callable[..., Job]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = ask_job(base_url=f"http://127.0.0.1:{port}/v1")
    with pytest.raises(ModelUnavailable, match=f"http://127.0.0.1:{port}/v1"):
        ask(job, make_request("q"))
    assert read_ledger(job) == {}


def test_the_next_endpoint_answers_what_the_first_cannot(ask_job: Callable[..., Job], model_server, answer, chat) -> None:
    model_server.decide = lambda asked: answer(chat()) if asked["model"] == "backup" else answer("{}", 503)
    job = ask_job(fallback='[{"model": "backup"}]')
    rows = [(make_request(f"q{number}"), make_request(f"q{number}", model="backup")) for number in range(3)]
    tally = ask(job, *rows)
    assert (tally.calls, tally.events["fallbacks"]) == (3, 1)
    assert {row["model"] for row in read_rows(job)} == {"backup"}
    asked = len(model_server.asked)
    assert ask(job, *rows) == Tally(from_ledger=3)  # an answer of either is an answer
    assert len(model_server.asked) == asked


def test_the_same_model_at_another_address_answers_under_the_same_key(
    ask_job: Callable[..., Job], model_server
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = ask_job(base_url=f"http://127.0.0.1:{port}/v1", fallback=json.dumps([{"base_url": model_server.url}]))
    sources = job.spark.createDataFrame([("S/00001/1/1", "A page."), ("S/00001/1/2", "Another.")], SOURCES)
    tally = Tally()
    answers = ask_about(job, STAGE, sources, lambda text, *_: text or "", tally).collect()
    assert sorted(row["row_id"] for row in answers) == ["S/00001/1/1/p0", "S/00001/1/2/p0"]
    assert (tally.calls, tally.events["fallbacks"]) == (2, 1)


def test_an_answer_that_a_rule_refuses_is_asked_for_anew_so_often_and_no_more(
    ask_job: Callable[..., Job], model_server, answer, chat
) -> None:
    replies = {0: "bad", 1_000_003: "good"}  # by the seed, which tells the askings apart
    model_server.decide = lambda asked: answer(chat(replies.get(asked["seed"], "never asked")))
    sources = ask_job().spark.createDataFrame([("S/00001/1/1", "A page.")], SOURCES)

    def judge(text: str | None, *_: object) -> str | Rejection:
        return Rejection("unparsable", "") if text == "bad" else text or ""

    for max_asks, seen in ((1, ("unparsable", None, 1)), (3, (None, "good", 2))):
        job = ask_job(ask_again='["unparsable"]', max_asks=max_asks)
        [row] = ask_about(job, STAGE, sources, judge, Tally()).collect()
        assert (row["rule"], row["text"] if not row["rule"] else None, len(model_server.asked)) == seen
    keys = {row["completion_key"] for row in DeltaTable(QUESTIONS.path(job.lake)).to_pyarrow_table().to_pylist()}
    assert keys == {row["completion_key"]} and len(read_rows(job)) == 2


def test_thoughts_are_no_part_of_the_answer(job: Job, model_server, chat) -> None:
    model_server.answer_with(chat("<think>Who reads this?</think>A baker."))
    sources = job.spark.createDataFrame([("S/00001/1/1", "A page.")], SOURCES)
    [row] = ask_about(job, STAGE, sources, lambda text, *_: text or "", Tally()).collect()
    assert row["text"] == "A baker."
    assert read_rows(job)[0]["text"] == "<think>Who reads this?</think>A baker."


def test_no_address_is_for_a_person_to_set(make_job: Callable[..., Job]) -> None:
    job = make_job("S/00001")
    with pytest.raises(ModelMisconfigured) as raised:
        ask(job, make_request("q"))
    assert str(raised.value) == (
        "No model endpoint is set. Wanted: the Airflow connection persona_hub_llm, or PERSONA_HUB_LLM__BASE_URL. "
        "To do: create the connection with the address up to /v1 as its host."
    )
    assert not DeltaTable.is_deltatable(COMPLETIONS.path(job.lake))


def test_a_lasting_failure_is_an_answer(job: Job, model_server, answer) -> None:
    model_server.answer_with(answer(json.dumps({"error": {"message": "too long"}}), 400))
    question = make_request("q")
    tally = ask(job, question)
    assert (tally.calls, tally.events) == (1, {"failed_bad_request": 1})
    assert ask(job, question) == Tally(from_ledger=1)
    [row] = read_rows(job)
    assert (row["text"], row["error_class"], row["error"]) == (None, "bad_request", "HTTP 400 (too long)")


def test_the_budget_stops_the_stage_at_its_line(ask_job: Callable[..., Job], model_server, tmp_path) -> None:
    (tmp_path / "prices.toml").write_text(f"[models.{MODEL}]\ninput = 0\noutput = 1e6\n")  # an answer costs 7
    job = ask_job(prices=tmp_path / "prices.toml", budget__per_day=100, parameters='{"max_tokens": 7}')
    questions = [make_request(f"q{number}", parameters={"max_tokens": 7}) for number in range(40)]
    with pytest.raises(BudgetReached, match="PERSONA_HUB_BUDGET__PER_DAY"):
        ask(job, *questions)
    assert sum(row["money"] for row in read_rows(job)) == 98.0  # 14 of 7; one more would be 105
    asked = len(model_server.asked)
    with pytest.raises(BudgetReached):
        ask(job, *questions)
    assert len(model_server.asked) == asked == 14
    richer = ask_job(prices=tmp_path / "prices.toml", budget__per_day=1000)
    assert ask(richer, *questions).from_ledger == 14
    assert set(count_asked(model_server).values()) == {1}


def test_hostile_answers_come_through_whole(job: Job, model_server, answer, chat) -> None:
    texts = ["\ud83d half of a pair", "nul \x00 inside", "a\u2028b\r\nc", "'; DROP TABLE x; --", "𝔘🥖 水", "5 MB" * 1_250_000]
    model_server.decide = lambda asked: answer(chat(texts[int(asked["messages"][-1]["content"])]))
    questions = [make_request(str(number)) for number in range(len(texts))]
    ask(job, *questions)
    stored = read_ledger(job)
    # A lone surrogate is no character that UTF-8 could hold.
    assert [stored[question.key] for question in questions] == ["\ufffd half of a pair", *texts[1:]]
