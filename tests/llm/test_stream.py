from __future__ import annotations

import itertools
import threading
import time

import pytest

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm.requests import Request
from persona_hub.llm.stream import AHEAD, answer_all


def build_requests(count):
    return [Request("m", [{"role": "user", "content": str(number)}]) for number in range(count)]


def read_number(asked):
    return int(asked["messages"][0]["content"])


def test_answers_each_once_within_the_window(model_server, llm_settings, answer, chat):
    model_server.decide = lambda asked: answer(chat(f"answer {read_number(asked)}"), delay_s=0.02)
    kept = []
    requests = build_requests(30)
    answers = list(answer_all(iter(requests), llm_settings(window=4), kept.append))
    assert sorted(completion.key for completion in answers) == sorted(request.key for request in requests)
    assert kept == answers
    assert model_server.most_flying == 4
    assert len(model_server.asked) == 30


def test_the_slowest_holds_nobody_up(model_server, llm_settings, answer, chat):
    released = threading.Event()

    def decide(asked):
        if read_number(asked) == 0:
            released.wait(5)
        return answer(chat())

    model_server.decide = decide
    requests = build_requests(12)
    order = []
    for completion in answer_all(iter(requests), llm_settings(window=3), lambda _: None):
        order.append(completion.key)
        if len(order) == 11:
            released.set()
    assert order[-1] == requests[0].key and len(order) == 12


def test_pulls_no_further_than_two_windows_ahead(model_server, llm_settings):
    pulled = itertools.count()
    requests = (Request("m", [{"role": "user", "content": str(next(pulled))}]) for _ in itertools.count())
    answers = answer_all(requests, llm_settings(window=3), lambda _: None)
    for _ in range(10):
        next(answers)
    answers.close()
    assert next(pulled) <= 10 + AHEAD * 3


def test_answer_is_kept_before_it_is_yielded(model_server, llm_settings):
    kept = []
    for completion in answer_all(iter(build_requests(5)), llm_settings(window=2), kept.append):
        assert completion in kept


def test_fatal_error_awaits_what_flies_and_sends_no_more(model_server, llm_settings, answer, chat):
    def decide(asked):
        if read_number(asked) == 0:
            return answer('{"error": {"message": "wrong key"}}', 401, delay_s=0.1)
        return answer(chat(), delay_s=0.4)

    model_server.decide = decide
    kept = []
    with pytest.raises(ModelMisconfigured, match="wrong key"):
        list(answer_all(iter(build_requests(50)), llm_settings(window=4), kept.append))
    assert len(model_server.asked) == 4
    assert len(kept) == 3


def test_fatal_error_ends_the_waiting_for_another_try(model_server, llm_settings, answer):
    def decide(asked):
        return answer("{}", 401, delay_s=0.3) if read_number(asked) == 0 else answer("{}", 429, {"Retry-After": "60"})

    model_server.decide = decide
    started = time.monotonic()
    with pytest.raises(ModelMisconfigured):
        list(answer_all(iter(build_requests(2)), llm_settings(window=2), lambda _: None))
    assert time.monotonic() - started < 5
    assert len(model_server.asked) == 2


def test_consumer_that_stops_loses_no_paid_answer(model_server, llm_settings, answer, chat):
    model_server.decide = lambda asked: answer(chat(), delay_s=0.1 if read_number(asked) < 2 else 0.4)
    kept = []
    answers = answer_all(iter(build_requests(50)), llm_settings(window=4), kept.append)
    next(answers)
    answers.close()
    assert len(kept) == len(model_server.asked) <= 8


def test_error_of_the_source_awaits_what_flies(model_server, llm_settings, answer, chat):
    model_server.decide = lambda _: answer(chat(), delay_s=0.2)
    kept = []

    def break_off():
        yield from build_requests(2)
        time.sleep(0.1)
        raise OSError("the table is gone")

    with pytest.raises(OSError, match="the table is gone"):
        list(answer_all(break_off(), llm_settings(window=4), kept.append))
    assert len(kept) == 2


def test_answer_that_cannot_be_kept_is_fatal(model_server, llm_settings):
    def fail(_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(answer_all(iter(build_requests(20)), llm_settings(window=2), fail))
    assert len(model_server.asked) <= 4


def test_missing_address_is_said_before_anything(llm_settings):
    with pytest.raises(ModelMisconfigured, match="No model endpoint"):
        list(answer_all(iter(build_requests(1)), llm_settings(base_url=None), lambda _: None))


def test_leaves_no_thread_behind(model_server, llm_settings):
    list(answer_all(iter(build_requests(3)), llm_settings(), lambda _: None))
    assert "model-calls" not in {thread.name for thread in threading.enumerate()}
