"""The calling stage against a real server on the loopback interface: nothing is asked twice, nothing paid is lost."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm.requests import Completion, Request
from persona_hub.llm.spool import SpoolWriter, spool_folder
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.ledger import ask_all
from persona_hub.tables.silver import COMPLETIONS

STAGE = "extract"


@pytest.fixture
def job(make_job: Callable[..., Job], model_server) -> Job:
    return make_job("S/00001", llm__base_url=model_server.url, llm__max_attempts=1, llm__window=2, llm__model="m")


def make_request(text: str, **changes: Any) -> Request:
    return Request("m", [{"role": "user", "content": text}], **changes)


def make_questions(job: Job, *requests: Request) -> DataFrame:
    rows = [(request.key, request.to_json()) for request in requests]
    return job.spark.createDataFrame(rows, "completion_key STRING, request STRING")


def ask(job: Job, *requests: Request) -> Tally:
    tally = Tally()
    ask_all(job, STAGE, make_questions(job, *requests), tally)
    return tally


def read_ledger(job: Job) -> dict[str, str | None]:
    rows = DeltaTable(COMPLETIONS.path(job.lake)).to_pyarrow_table().to_pylist()
    assert len({row["completion_key"] for row in rows}) == len(rows)
    return {row["completion_key"]: row["text"] for row in rows}


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
    assert list(spool_folder(job.lake, job.slice, STAGE).iterdir()) == []

    version = DeltaTable(COMPLETIONS.path(job.lake)).version()
    assert ask(job, *questions) == Tally(from_ledger=25)
    assert len(model_server.asked) == 25
    assert DeltaTable(COMPLETIONS.path(job.lake)).version() == version

    another = make_request("q0", sample=1)  # the same words, asked for another answer
    assert ask(job, questions[0], another) == Tally(calls=1, from_ledger=1, prompt_tokens=11, completion_tokens=7)
    assert count_asked(model_server)["q0"] == 2


def test_what_a_killed_run_left_is_folded_first(make_job: Callable[..., Job], model_server) -> None:
    prices = {"llm__price_input": 1e6, "llm__price_output": 0}
    job = make_job("S/00001", llm__base_url=model_server.url, llm__max_attempts=1, llm__model="m", **prices)
    done, open_ = make_request("done"), make_request("open")
    folder = spool_folder(job.lake, job.slice, STAGE)
    writer = SpoolWriter(folder, job.slice, STAGE, job.settings.llm)
    writer.write(Completion(done.key, "Answered before.", "stop", 5, None, 2, 0.1, 1, "served"))
    writer.write(Completion(open_.key, "Cut", "stop", 5, None, 2, 0.1, 1, "served"))
    [file] = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-30])  # killed in the middle of a line
    tally = ask(job, done, open_)
    assert count_asked(model_server) == {"open": 1}
    assert read_ledger(job) == {done.key: "Answered before.", open_.key: "Hello."}
    # The killed try's call is counted here: nobody else will.
    assert tally == Tally(calls=2, from_ledger=1, prompt_tokens=5 + 11, completion_tokens=2 + 7, money=5.0 + 11.0)
    assert list(folder.iterdir()) == []


def test_a_server_that_fails_half_way_costs_nothing_twice(job: Job, model_server, answer, chat) -> None:
    questions = [make_request(f"q{number}") for number in range(12)]
    model_server.answer_with(*[chat("Yes.")] * 5, answer("overloaded", 503))
    with pytest.raises(Exception, match="ModelUnavailable") as raised:
        ask(job, *questions)
    told = next(line for line in str(raised.value).splitlines() if "persona_hub.errors.ModelUnavailable" in line)
    assert f"The model endpoint {model_server.url} failed 1 of 1 tries; last: HTTP 503" in told
    assert "answers so far are kept" in told
    first = count_asked(model_server)

    model_server.answer_with(chat("Yes."))
    tally = ask(job, *questions)
    assert set(read_ledger(job).values()) == {"Yes."}
    assert set(read_ledger(job)) == {question.key for question in questions}
    assert tally.calls == 12
    # Five were answered before; those refused with 503 were asked again, and no other.
    assert sum(count_asked(model_server).values()) == 12 + sum(first.values()) - 5


def test_a_server_that_is_down(make_job: Callable[..., Job]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = make_job("S/00001", llm__base_url=f"http://127.0.0.1:{port}/v1", llm__max_attempts=1)
    with pytest.raises(Exception, match=rf"ModelUnavailable: The model endpoint http://127.0.0.1:{port}/v1 failed 1 of 1"):
        ask(job, make_request("q"))
    assert read_ledger(job) == {}


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
    assert ask(job, question).calls == 1
    assert ask(job, question) == Tally(from_ledger=1)
    [row] = DeltaTable(COMPLETIONS.path(job.lake)).to_pyarrow_table().to_pylist()
    assert (row["text"], row["error_class"], row["error"]) == (None, "bad_request", "HTTP 400 (too long)")


def test_hostile_answers_come_through_whole(job: Job, model_server, answer, chat) -> None:
    texts = ["\ud83d half of a pair", "nul \x00 inside", "a\u2028b\r\nc", "'; DROP TABLE x; --", "𝔘🥖 水"]
    model_server.decide = lambda asked: answer(chat(texts[int(asked["messages"][-1]["content"])]))
    questions = [make_request(str(number)) for number in range(len(texts))]
    ask(job, *questions)
    stored = read_ledger(job)
    # A lone surrogate is no character that UTF-8 could hold.
    assert [stored[question.key] for question in questions] == ["\ufffd half of a pair", *texts[1:]]
