"""Many calls at once: the window, the faults, the stops. Each against a loopback server."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections import Counter

import pytest

from persona_hub.errors import HubError, ModelMisconfigured, ModelUnavailable
from persona_hub.llm import stream
from persona_hub.llm.requests import Request
from persona_hub.llm.stream import AHEAD, Calling


def build_requests(count):
    return [Request("m", [{"role": "user", "content": str(number)}]) for number in range(count)]


def read_number(asked):
    return int(asked["messages"][0]["content"])


def write_error(message="no", **error):
    return json.dumps({"error": {"message": message, **error}})


def wait_until(condition, at_most_s=30):
    ends_at = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < ends_at, "waited in vain"
        time.sleep(0.002)


def start_when(condition, act):
    """Acts in another thread as soon as the condition holds."""

    def watch():
        wait_until(condition)
        act()

    threading.Thread(target=watch, daemon=True).start()


class Run:
    """One run over `count` requests: what was kept, yielded and raised."""

    def __init__(self, settings, count, admission=None, on_answer=None):
        self.kept, self.yielded, self.error = [], [], None
        self.calling = Calling(settings, ("seed",), on_answer or self.kept.append, admission)
        self.stats = self.calling.stats
        try:
            self.yielded += self.calling.answer_all(iter(build_requests(count)))
        except HubError as error:
            self.error = error

    @property
    def by_class(self):
        return Counter(completion.error_class for completion in self.kept)


# What it does when all is well.


def test_answers_each_once_within_the_window(model_server, llm_settings, answer, chat):
    model_server.decide = lambda asked: answer(chat(f"answer {read_number(asked)}"), delay_s=0.02)
    run = Run(llm_settings(window=4), 30)
    assert sorted(completion.key for completion in run.kept) == sorted(request.key for request in build_requests(30))
    assert run.kept == run.yielded
    assert (model_server.most_flying, len(model_server.asked)) == (4, 30)
    stats = run.stats
    assert (stats.sent, stats.answered, stats.retried, stats.unanswered, stats.in_flight) == (30, 30, 0, 0, 0)
    assert (stats.prompt_tokens, stats.completion_tokens, stats.window) == (330, 210, 4)
    assert (stats.waiting, stats.stopped) == ("", "")


def test_the_slowest_holds_nobody_up(model_server, llm_settings, answer, chat):
    released = threading.Event()

    def decide(asked):
        if read_number(asked) == 0:
            released.wait(5)
        return answer(chat())

    model_server.decide = decide
    requests = build_requests(12)
    order = []
    for completion in Calling(llm_settings(window=3), (), lambda _: None).answer_all(iter(requests)):
        order.append(completion.key)
        if len(order) == 11:
            released.set()
    assert order[-1] == requests[0].key and len(order) == 12


def test_pulls_no_further_than_two_windows_ahead(model_server, llm_settings):
    pulled = itertools.count()
    requests = (Request("m", [{"role": "user", "content": str(next(pulled))}]) for _ in itertools.count())
    answers = Calling(llm_settings(window=3), (), lambda _: None).answer_all(requests)
    for _ in range(10):
        next(answers)
    answers.close()
    assert next(pulled) <= 10 + AHEAD * 3


def test_answer_is_kept_before_it_is_yielded(model_server, llm_settings):
    kept = []
    for completion in Calling(llm_settings(window=2), (), kept.append).answer_all(iter(build_requests(5))):
        assert completion in kept


def test_has_no_more_tasks_than_the_window(model_server, llm_settings, answer, chat):
    most = 0

    def count_tasks(_):
        nonlocal most
        most = max(most, sum(task.get_coro().__qualname__ == "Engine._run" for task in asyncio.all_tasks()))

    run = Run(llm_settings(window=3), 40, on_answer=count_tasks)
    assert run.stats.answered == 40
    assert 1 <= most <= 3


def test_nothing_to_ask(model_server, llm_settings):
    assert Run(llm_settings(), 0).yielded == []


def test_leaves_no_thread_behind(model_server, llm_settings):
    Run(llm_settings(), 3)
    assert "model-calls" not in {thread.name for thread in threading.enumerate()}


def test_missing_address_is_said_before_anything(llm_settings):
    with pytest.raises(ModelMisconfigured, match="No model endpoint"):
        list(Calling(llm_settings(base_url=None), (), lambda _: None).answer_all(iter(build_requests(1))))


# Faults that another try cures.


def test_429_is_sent_again(model_server, llm_settings, answer, chat):
    model_server.answer_with(answer(write_error(), 429), answer(write_error(), 429), chat())
    run = Run(llm_settings(window=2), 10)
    assert (run.stats.answered, run.stats.refused, run.stats.retried, run.stats.sent) == (10, 2, 2, 12)
    assert run.stats.maybe_paid == 0


def test_retry_after_delays_the_refused_call_and_no_other(model_server, llm_settings, answer, chat):
    refused_at: list[float] = []
    again_at: list[float] = []

    def decide(asked):
        if read_number(asked) != 0:
            return answer(chat())
        if refused_at:
            again_at.append(time.monotonic())
            return answer(chat())
        refused_at.append(time.monotonic())
        return answer("{}", 429, {"Retry-After": "1"})

    model_server.decide = decide
    run = Run(llm_settings(window=4), 12)
    assert run.yielded[-1].key == build_requests(1)[0].key
    assert (run.yielded[-1].attempts, {completion.attempts for completion in run.yielded[:-1]}) == (2, {1})
    assert again_at[0] - refused_at[0] >= 0.9


def test_a_lasting_failure_waits_for_nothing(model_server, llm_settings, answer, chat):
    model_server.answer_with(answer("{}", 400, {"Retry-After": "7200"}), chat())
    assert Run(llm_settings(window=1), 5).by_class == {None: 4, "bad_request": 1}


def test_one_who_asks_to_wait_for_hours_is_unavailable(model_server, llm_settings, answer):
    model_server.answer_with(answer("{}", 429, {"Retry-After": "7200"}))
    run = Run(llm_settings(window=1), 5)
    assert type(run.error) is ModelUnavailable and "asks to wait for 7200 s" in str(run.error)
    assert (len(model_server.asked), run.stats.unanswered) == (1, 2)  # two windows were pulled


def test_a_burst_of_500_costs_no_row(model_server, llm_settings, answer, chat):
    model_server.answer_with(*[chat()] * 5, *[answer("<html>", 500)] * 25, chat())
    run = Run(llm_settings(window=8), 60)
    assert (run.stats.answered, run.stats.unanswered, run.stats.retried) == (60, 0, 25)
    assert run.error is None and run.by_class == {None: 60}


def test_an_endpoint_that_refuses_even_single_calls_is_only_probed(model_server, llm_settings, answer, chat):
    model_server.answer_with(*[answer("{}", 429)] * 20, chat())
    run = Run(llm_settings(window=4), 20)
    # Four or more refused sends cut the window to one; five single ones open the breaker; then nobody's tries run out.
    assert (run.stats.answered, run.stats.unanswered, run.stats.refused) == (20, 0, 20)


def test_a_sick_endpoint_is_unavailable_when_patience_ends(model_server, llm_settings, answer):
    model_server.answer_with(answer(write_error("overloaded, key sk-secret-1"), 500))
    run = Run(llm_settings(window=4, patience_s=0.1), 50)
    assert type(run.error) is ModelUnavailable
    assert f"{model_server.url} was sick for longer than 0.1 s; last: HTTP 500 (overloaded, key ***)" in str(run.error)
    assert run.kept == []
    # Five open the breaker, up to three fly with them, then single probes.
    assert 6 <= len(model_server.asked) <= 16


def test_nobody_listens(llm_settings):
    with socket.socket() as taken:  # bound, not listening: refuses every connection
        taken.bind(("127.0.0.1", 0))
        run = Run(llm_settings(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1", patience_s=0.05), 10)
    assert type(run.error) is ModelUnavailable and "no connection" in str(run.error)
    assert run.stats.maybe_paid == 0


def test_one_that_comes_up_late_is_waited_for(model_server, llm_settings, answer, chat):
    up_at = time.monotonic() + 0.3
    model_server.decide = lambda _: answer(chat()) if time.monotonic() > up_at else answer("", 502)
    run = Run(llm_settings(window=8), 30)
    assert (run.stats.answered, run.stats.unanswered) == (30, 0)
    assert run.stats.retried == run.stats.sent - 30 <= 8 + 40  # those that flew, and probes 10 to 20 ms apart


@pytest.mark.parametrize(("status", "error_class"), [(429, "rate_limited"), (503, "overloaded")])
def test_a_call_that_never_finds_room_is_left_unanswered(model_server, llm_settings, answer, chat, status, error_class):
    model_server.decide = lambda asked: answer("", status) if read_number(asked) == 7 else answer(chat())
    run = Run(llm_settings(window=1, max_attempts=3), 20)
    assert (run.stats.answered, run.stats.unanswered, dict(run.stats.failed)) == (19, 1, {error_class: 1})
    assert len(run.yielded) == 19 and run.error is None
    assert Counter(map(read_number, model_server.asked))[7] == 3


def test_a_call_that_breaks_the_server_while_others_are_answered_is_kept(model_server, llm_settings, answer, chat):
    model_server.decide = lambda asked: answer("", 500) if read_number(asked) == 7 else answer(chat())
    run = Run(llm_settings(window=1, max_attempts=3), 20)
    assert run.by_class == {None: 19, "overloaded": 1} and run.error is None
    failed = next(completion for completion in run.kept if completion.error_class)
    assert (failed.text, failed.attempts, failed.maybe_paid, failed.error) == (None, 3, 0, "HTTP 500")
    assert (dict(run.stats.kept), run.stats.unanswered, dict(run.stats.failed)) == ({"overloaded": 1}, 0, {})


def test_so_is_one_whose_last_tries_are_the_last_of_all(model_server, llm_settings, answer, chat):
    """Its five tries after the last answer open the breaker; the one before tells whose fault it is."""

    def decide(asked):
        if read_number(asked) == 0:
            if len(model_server.asked) > 2:
                wait_until(lambda: calling.stats.answered)
            return answer("", 500)
        wait_until(lambda: calling.stats.retried)
        return answer(chat())

    model_server.decide = decide
    kept = []
    calling = Calling(llm_settings(window=2, timeout_s=60), (), kept.append)
    list(calling.answer_all(iter(build_requests(2))))
    assert [completion.error_class for completion in kept] == [None, "overloaded"]
    assert (kept[1].attempts, calling.stats.unanswered) == (6, 0)


def test_a_probe_uses_up_no_try(model_server, llm_settings, answer, chat):
    model_server.answer_with(*[answer("", 503)] * 15, chat())
    run = Run(llm_settings(max_attempts=6), 1)
    assert (run.stats.answered, run.stats.sent, run.stats.unanswered) == (1, 16, 0)
    assert run.yielded[0].attempts == 16


def test_where_none_is_answered_no_failure_is_kept(model_server, llm_settings, answer):
    model_server.answer_with(answer("", reset="before"))
    run = Run(llm_settings(window=4), 4)
    assert (run.kept, run.yielded, dict(run.stats.kept)) == ([], [], {})
    assert (run.stats.unanswered, dict(run.stats.failed), run.stats.sent) == (4, {"disconnected": 4}, 8)


def test_a_failure_that_no_answer_follows_is_left_to_the_next_run(model_server, llm_settings, answer, chat):
    model_server.decide = lambda asked: answer("", reset="before") if read_number(asked) > 6 else answer(chat())
    run = Run(llm_settings(window=1), 8)
    assert run.by_class == {None: 7}
    assert (run.stats.unanswered, dict(run.stats.failed), dict(run.stats.kept)) == (1, {"disconnected": 1}, {})


def test_an_outage_leaves_no_lasting_failure(model_server, llm_settings, answer, chat):
    model_server.answer_with(*[answer("", reset="before")] * 20, chat())
    run = Run(llm_settings(window=4), 60)
    assert set(run.by_class) == {None} and run.error is None
    assert run.stats.answered + run.stats.unanswered == 60
    assert dict(run.stats.failed) == {"disconnected": run.stats.unanswered} and not run.stats.kept


# Faults that may have been paid for: once more, then kept.


@pytest.fixture
def spoil(model_server, answer, chat):
    """Question 3 gets the bad answer, the first `times` times; all others a good one."""

    def apply(bad, times=2):
        model_server.asked.clear()

        def decide(asked):
            number = read_number(asked)
            count = sum(read_number(other) == 3 for other in model_server.asked)
            return bad if number == 3 and count <= times else answer(chat())

        model_server.decide = decide

    return apply


def make_bad(kind, answer, chat):
    return {
        "timeout": answer("", delay_s=0.5),
        "reset before": answer(chat(), reset="before"),
        "reset within": answer(chat(), reset="within"),
        "half a JSON": answer(chat()[:60]),
        "no body": answer(""),
        "no choice": answer('{"choices": []}'),
        "upstream": answer(write_error("upstream died")),
    }[kind]


MAYBE_PAID = {
    "timeout": "timeout",
    "reset before": "disconnected",
    "reset within": "disconnected",
    "half a JSON": "half_answer",
    "no body": "half_answer",
    "no choice": "no_choice",
    "upstream": "upstream_error",
}


@pytest.mark.parametrize("kind", MAYBE_PAID)
def test_what_may_be_paid_is_sent_once_more(llm_settings, answer, chat, spoil, kind):
    spoil(make_bad(kind, answer, chat), times=1)
    run = Run(llm_settings(window=2, timeout_s=0.25), 10)
    again = next(completion for completion in run.kept if completion.key == build_requests(4)[3].key)
    assert (again.text, again.attempts, again.maybe_paid) == ("Hello.", 2, 1)
    assert (run.stats.answered, run.stats.maybe_paid, run.stats.sent) == (10, 1, 11)


@pytest.mark.parametrize("kind", MAYBE_PAID)
def test_the_second_time_it_is_kept(llm_settings, answer, chat, spoil, kind):
    spoil(make_bad(kind, answer, chat))
    run = Run(llm_settings(window=1, timeout_s=0.15), 10)
    assert run.by_class == {None: 9, MAYBE_PAID[kind]: 1}
    failed = next(completion for completion in run.kept if completion.error_class)
    assert (failed.text, failed.attempts, failed.maybe_paid) == (None, 2, 2)
    assert failed.error and failed.completion_tokens is None
    assert (dict(run.stats.kept), run.stats.unanswered) == ({MAYBE_PAID[kind]: 1}, 0)


def test_a_reset_after_the_body_loses_nothing(model_server, llm_settings, answer, chat):
    model_server.decide = lambda asked: answer(chat(), reset="after" if read_number(asked) == 3 else "")
    run = Run(llm_settings(window=1), 4)
    assert (run.stats.answered, run.stats.sent, run.stats.maybe_paid) == (4, 4, 0)


# Failures that are the answer.


@pytest.mark.parametrize(
    ("status", "error", "error_class"),
    [
        (400, {"code": "context_length_exceeded"}, "context_length"),
        (400, {"code": "content_filter"}, "content_filter"),
        (400, {}, "bad_request"),
        (413, {}, "too_large"),
        (422, {}, "unprocessable"),
    ],
)
def test_a_lasting_failure_is_kept_at_once(llm_settings, answer, spoil, status, error, error_class):
    spoil(answer(write_error("not for sk-secret-1", **error), status))
    run = Run(llm_settings(window=2), 10)
    assert run.by_class == {None: 9, error_class: 1}
    failed = next(completion for completion in run.kept if completion.error_class)
    assert (failed.attempts, failed.maybe_paid, failed.error) == (1, 0, f"HTTP {status} (not for ***)")
    assert (run.stats.sent, run.yielded) == (10, run.kept)


def test_a_tool_call_is_kept_with_its_tokens(llm_settings, answer, chat, spoil):
    spoil(answer(chat(None, "tool_calls", tool_calls=[{"id": "1"}])))
    run = Run(llm_settings(window=2), 10)
    failed = next(completion for completion in run.kept if completion.error_class)
    assert (failed.error_class, failed.text, failed.finish_reason) == ("tool_call", None, "tool_calls")
    assert (failed.prompt_tokens, failed.completion_tokens) == (11, 7)


def test_what_was_paid_is_recorded_at_once(model_server, llm_settings, answer, chat):
    """A stop would lose what was held back."""
    tool_call = answer(chat(None, "tool_calls", tool_calls=[{"id": "1"}]))
    no_choice = answer(json.dumps(json.loads(chat()) | {"choices": []}))
    model_server.answer_with(tool_call, no_choice, no_choice, answer("{}", 401))
    kept = []
    calling = Calling(llm_settings(window=1), (), kept.append)
    requests = iter(build_requests(3))

    def read_slowly():
        yield next(requests)
        yield next(requests)
        wait_until(lambda: len(kept) == 2)
        yield next(requests)

    with pytest.raises(ModelMisconfigured):
        list(calling.answer_all(read_slowly()))
    assert [(one.error_class, one.completion_tokens) for one in kept] == [("tool_call", 7), ("no_choice", 7)]
    assert dict(calling.stats.kept) == {"tool_call": 1, "no_choice": 1}


def test_odd_answers_are_answers(llm_settings, answer, chat, spoil):
    for bad, text, reason, tokens in (
        (chat("Half a", "length"), "Half a", "length", 7),
        ('{"choices": [{"message": {"content": "x"}}]}', "x", None, None),
        (chat("y" * 5_000_000), "y" * 5_000_000, "stop", 7),
    ):
        spoil(answer(bad))
        run = Run(llm_settings(window=2), 5)
        odd = next(completion for completion in run.kept if completion.key == build_requests(4)[3].key)
        assert (odd.text, odd.finish_reason, odd.completion_tokens, odd.error_class) == (text, reason, tokens, None)
        assert run.stats.answered == 5


def test_answers_of_another_model_are_kept_and_counted(model_server, llm_settings, answer, chat):
    names = ["m", "m-2026-01-01", "another", "served-m"]
    model_server.decide = lambda asked: answer(chat().replace("served-model", names[read_number(asked)]))
    run = Run(llm_settings(), 4)
    assert (run.stats.other_model, run.stats.answered) == (2, 4)
    assert sorted(completion.answered_by for completion in run.kept) == sorted(names)


# A setting mistake must not become the answer of every row.


def test_where_all_fail_nothing_is_recorded(model_server, llm_settings, answer):
    model_server.answer_with(answer(write_error("unknown parameter: temprature"), 400))
    run = Run(llm_settings(window=4), 100)
    assert type(run.error) is ModelMisconfigured
    assert "20 of the last 20 calls" in str(run.error) and "bad_request 20" in str(run.error)
    assert (run.kept, run.yielded) == ([], [])
    assert 20 <= len(model_server.asked) <= 23
    assert run.stats.unanswered >= 20  # what failed, and what was pulled ahead


def test_where_all_calls_break_the_endpoint_is_unavailable(model_server, llm_settings, chat):
    model_server.answer_with(chat()[:50])
    run = Run(llm_settings(window=4), 100)
    assert type(run.error) is ModelUnavailable and "half_answer 20" in str(run.error)
    assert run.kept == []


def test_failures_of_a_few_calls_are_recorded_at_the_end(model_server, llm_settings, answer):
    model_server.answer_with(answer(write_error(), 400))
    run = Run(llm_settings(window=4), 10)
    assert run.by_class == {"bad_request": 10} and run.yielded == run.kept


def test_failures_are_recorded_once_answers_outnumber_them(model_server, llm_settings, answer, chat):
    model_server.decide = lambda asked: answer(write_error(), 400) if read_number(asked) < 3 else answer(chat())
    run = Run(llm_settings(window=1), 10)
    assert [completion.error_class for completion in run.kept] == [*[None] * 4, *["bad_request"] * 3, *[None] * 3]


# What a person must cure.


@pytest.mark.parametrize(
    ("status", "body", "cure"),
    [
        (401, write_error("wrong key sk-secret-1"), "correct the key"),
        (403, "{}", "access to this model"),
        (404, "<html>", "ends in /v1"),
        (402, "{}", "pay the provider's bill"),
        (429, write_error(code="insufficient_quota"), "raise the quota"),
        (200, "<!doctype html><p>Log in</p>", "ends in /v1"),
        (200, '{"status": "fine"}', "correct the address"),
    ],
)
def test_stops_at_once(model_server, llm_settings, answer, status, body, cure):
    model_server.answer_with(answer(body, status))
    run = Run(llm_settings(window=1), 20)
    assert type(run.error) is ModelMisconfigured and cure in str(run.error)
    assert len(model_server.asked) == 1
    assert "sk-secret-1" not in str(run.error)


def test_401_in_mid_run_awaits_what_flies_and_sends_no_more(model_server, llm_settings, answer, chat):
    def decide(asked):
        number = read_number(asked)
        if number == 4:
            wait_until(lambda: len(model_server.asked) == 8)
            return answer(write_error("revoked"), 401)
        if number > 4:
            wait_until(lambda: calling.stats.stopped)
        return answer(chat())

    model_server.decide = decide
    kept = []
    calling = Calling(llm_settings(window=4, timeout_s=60), (), kept.append)
    with pytest.raises(ModelMisconfigured, match="revoked"):
        list(calling.answer_all(iter(build_requests(50))))
    assert len(model_server.asked) == 8
    assert len(kept) == 7 == calling.stats.answered
    assert calling.stats.stopped == "HTTP 401 (revoked)"


def test_a_stop_ends_the_waiting_for_another_try(model_server, llm_settings, answer):
    def decide(asked):
        if read_number(asked) == 1:
            return answer("{}", 429, {"Retry-After": "60"})
        wait_until(lambda: calling.stats.refused)
        return answer("{}", 401)

    model_server.decide = decide
    calling = Calling(llm_settings(window=2, timeout_s=60), (), lambda _: None)
    with pytest.raises(ModelMisconfigured):
        list(calling.answer_all(iter(build_requests(2))))
    assert len(model_server.asked) == 2  # a minute later there would be a third


# Stops.


def test_request_stop_ends_normally_with_what_flew(model_server, llm_settings, answer, chat):
    def decide(asked):
        if read_number(asked) >= 4:
            wait_until(lambda: calling.stats.stopped)
        return answer(chat())

    model_server.decide = decide
    kept = []
    calling = Calling(llm_settings(window=4, timeout_s=60), (), kept.append)
    yielded = []
    for completion in calling.answer_all(iter(build_requests(100))):
        yielded.append(completion)
        if len(yielded) == 4:
            threading.Thread(target=calling.request_stop, args=("SIGTERM",)).start()
    assert yielded == kept and len(kept) == len(model_server.asked) <= 8
    assert calling.stats.stopped == "SIGTERM"
    assert calling.stats.answered == len(kept)


def test_request_stop_from_a_signal_handler(model_server, llm_settings, answer, chat):
    def decide(_):
        wait_until(lambda: calling.stats.stopped)
        return answer(chat())

    model_server.decide = decide
    kept = []
    calling = Calling(llm_settings(window=4, timeout_s=60), (), kept.append)
    before = signal.signal(signal.SIGUSR1, lambda *_: calling.request_stop("a signal"))
    try:
        start_when(lambda: len(model_server.asked) == 4, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert len(list(calling.answer_all(iter(build_requests(100))))) == 4
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (len(model_server.asked), len(kept), calling.stats.stopped) == (4, 4, "a signal")


def test_request_stop_before_the_start_sends_nothing(model_server, llm_settings):
    calling = Calling(llm_settings(), (), lambda _: None)
    calling.request_stop("too late")
    assert list(calling.answer_all(iter(build_requests(5)))) == []
    assert model_server.asked == []


def test_a_stop_leaves_failures_that_were_held_back_to_the_next_run(model_server, llm_settings, answer, chat):
    def decide(asked):
        if read_number(asked) < 3:
            return answer(write_error(), 400)
        wait_until(lambda: calling.stats.stopped)
        return answer(chat())

    model_server.decide = decide
    kept = []
    calling = Calling(llm_settings(window=4, timeout_s=60), (), kept.append)
    start_when(lambda: len(model_server.asked) == 5, lambda: calling.request_stop("SIGTERM"))
    list(calling.answer_all(iter(build_requests(5))))
    assert [completion.error_class for completion in kept] == [None, None]
    assert (calling.stats.answered, calling.stats.unanswered, dict(calling.stats.kept)) == (2, 3, {"bad_request": 3})


def test_consumer_that_stops_loses_no_paid_answer(model_server, llm_settings, answer, chat):
    def decide(asked):
        if read_number(asked) >= 2:
            wait_until(lambda: calling.stats.stopped)
        return answer(chat())

    model_server.decide = decide
    kept = []
    calling = Calling(llm_settings(window=4, timeout_s=60), (), kept.append)
    answers = calling.answer_all(iter(build_requests(50)))
    next(answers)
    answers.close()
    assert len(kept) == len(model_server.asked) <= 6


def test_error_of_the_source_awaits_what_flies(model_server, llm_settings, answer, chat):
    def decide(_):
        wait_until(lambda: calling.stats.stopped)
        return answer(chat())

    def break_off():
        yield from build_requests(2)
        wait_until(lambda: len(model_server.asked) == 2)
        raise OSError("the table is gone")

    model_server.decide = decide
    kept = []
    calling = Calling(llm_settings(window=4, timeout_s=60), (), kept.append)
    with pytest.raises(OSError, match="the table is gone"):
        list(calling.answer_all(break_off()))
    assert len(kept) == 2


def test_answer_that_cannot_be_kept_is_fatal(model_server, llm_settings):
    def fail(_):
        raise OSError("disk full")

    calling = Calling(llm_settings(window=2), (), fail)
    with pytest.raises(OSError, match="disk full"):
        list(calling.answer_all(iter(build_requests(20))))
    assert len(model_server.asked) <= 2
    assert calling.stats.stopped == "disk full"


def test_a_failure_that_cannot_be_kept_at_the_end_is_fatal(model_server, llm_settings, answer):
    def fail(_):
        raise OSError("disk full")

    model_server.answer_with(answer(write_error(), 400))
    with pytest.raises(OSError, match="disk full"):
        list(Calling(llm_settings(window=2), (), fail).answer_all(iter(build_requests(3))))


# Limits and budgets of others.


class BudgetReached(HubError):
    pass


class Gate:
    """Lets `room` sends through, then raises; keeps what was settled."""

    def __init__(self, room, wait_s=0.0):
        self.room, self.wait_s = room, wait_s
        self.tickets, self.settled = itertools.count(), {}

    async def admit(self, request):
        await asyncio.sleep(self.wait_s)
        ticket = next(self.tickets)
        if ticket >= self.room:
            raise BudgetReached("The budget per day is used up")
        return ticket

    def settle(self, ticket, completion):
        assert ticket not in self.settled
        self.settled[ticket] = completion


def test_each_send_is_admitted_and_settled(model_server, llm_settings, answer, chat):
    model_server.answer_with(answer("{}", 429), answer("", reset="before"), answer(write_error(), 400), chat())
    gate = Gate(100)
    run = Run(llm_settings(window=1), 5, gate)
    settled = [completion and (completion.error_class, completion.completion_tokens) for completion in
               (gate.settled[ticket] for ticket in range(7))]  # fmt: skip
    assert settled[0] is None and settled[2] is None
    assert settled[1] == ("disconnected", None)
    assert settled[3:] == [(None, 7)] * 4
    assert run.stats.sent == 7


def test_a_budget_ends_the_calls_after_what_flies(model_server, llm_settings, answer, chat):
    model_server.decide = lambda _: answer(chat(), delay_s=0.05)
    gate = Gate(10)
    run = Run(llm_settings(window=4), 50, gate)
    assert type(run.error) is BudgetReached
    assert len(model_server.asked) == len(run.kept) == len(gate.settled) == 10
    assert run.stats.stopped == "The budget per day is used up."


def test_calls_that_wait_for_admission_are_not_sent_after_a_stop(model_server, llm_settings):
    gate = Gate(100, wait_s=5)
    calling = Calling(llm_settings(window=4), (), lambda _: None, gate)
    seen = []

    def stop():
        seen.append(calling.stats.waiting)
        calling.request_stop("SIGTERM")

    start_when(lambda: calling.stats.waiting, stop)
    started = time.monotonic()
    assert list(calling.answer_all(iter(build_requests(4)))) == []
    assert time.monotonic() - started < 3
    assert (model_server.asked, seen, calling.stats.unanswered) == ([], ["limits"], 4)


class Barrier(Gate):
    """Lets the first `first` sends through at once, the others when the test opens it."""

    def __init__(self, first):
        super().__init__(1_000)
        self.first, self.open, self.waited = first, threading.Event(), 0

    async def admit(self, request):
        ticket = await super().admit(request)
        self.waited += ticket >= self.first
        while ticket >= self.first and not self.open.is_set():
            await asyncio.sleep(0.002)
        return ticket


def test_calls_that_waited_for_admission_while_the_breaker_opened_are_held(model_server, llm_settings, answer, chat):
    """Five failures open it while three calls wait: then only single calls go, until one is answered."""
    flying = []

    def decide(asked):
        if len(model_server.asked) > 8:
            return answer(chat())
        if gate.open.is_set():
            flying.append(model_server.flying)
            return answer("", 500, delay_s=0.05)
        wait_until(lambda: gate.waited >= 3)
        return answer("", 500)

    model_server.decide = decide
    gate = Barrier(5)
    calling = Calling(llm_settings(window=8, timeout_s=60), (), lambda _: None, gate)
    start_when(lambda: calling.stats.waiting == "the endpoint is sick", gate.open.set)
    list(calling.answer_all(iter(build_requests(8))))
    assert flying == [1, 1, 1]
    assert calling.stats.answered == 8
    assert len(gate.settled) > calling.stats.sent  # each ticket came back, that of an unsent call with nothing
    assert sum(completion is not None for completion in gate.settled.values()) == 8


def test_calls_that_waited_for_admission_while_the_window_was_cut_stay_within_it(
    model_server, llm_settings, answer, chat
):
    def decide(asked):
        if read_number(asked) == 0 and not calling.stats.refused:
            wait_until(lambda: gate.waited >= 7)
            return answer("", 429)
        return answer(chat(), delay_s=0.05)

    model_server.decide = decide
    gate = Barrier(1)
    calling = Calling(llm_settings(window=8, timeout_s=60), (), lambda _: None, gate)
    start_when(lambda: calling.stats.refused, gate.open.set)
    list(calling.answer_all(iter(build_requests(8))))
    assert (calling.stats.answered, calling.stats.sent) == (8, 9)
    assert model_server.most_flying <= 6


def test_runs_on_uvloop(model_server, llm_settings):
    loops = []
    Run(llm_settings(), 1, on_answer=lambda _: loops.append(type(asyncio.get_running_loop())))
    assert loops == [stream.uvloop.Loop]
