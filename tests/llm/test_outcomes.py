from __future__ import annotations

import pytest

from persona_hub.errors import ModelMisconfigured, ModelUnavailable
from persona_hub.llm.failures import Failure
from persona_hub.llm.outcomes import Outcomes
from persona_hub.llm.requests import Completion

TOO_LONG = Failure("context_length", "HTTP 400 (too long)")
DOWN = Failure("overloaded", "HTTP 500")
FULL = Failure("rate_limited", "HTTP 429", congestion=True)


def complete(key="k"):
    return Completion(key, None, None, None, None, None, 0.0, 1, error_class="context_length")


def test_failures_wait_until_answers_outnumber_them():
    outcomes = Outcomes("http://host/v1")
    outcomes.keep(TOO_LONG, complete("a"))
    outcomes.keep(TOO_LONG, complete("b"))
    for _ in range(2):
        outcomes.add_answer()
        assert outcomes.release() == []
    assert outcomes.held == 2
    outcomes.add_answer()
    assert [completion.key for completion in outcomes.release()] == ["a", "b"]
    assert (outcomes.held, outcomes.release()) == (0, [])


def test_at_the_end_they_are_released():
    outcomes = Outcomes("http://host/v1")
    outcomes.keep(TOO_LONG, complete("a"))
    assert [completion.key for completion in outcomes.release(at_end=True)] == ["a"]


def test_one_in_doubt_waits_for_another_answer():
    outcomes = Outcomes("http://host/v1")
    for _ in range(5):
        outcomes.add_answer()
    outcomes.keep(DOWN, complete("a"), outcomes.answered)
    assert outcomes.release() == []
    outcomes.add_answer()
    assert [completion.key for completion in outcomes.release()] == ["a"]


def test_one_in_doubt_is_dropped_at_the_end():
    outcomes = Outcomes("http://host/v1")
    outcomes.add_answer()
    outcomes.keep(DOWN, complete("a"), outcomes.answered)
    outcomes.keep(TOO_LONG, complete("b"))
    assert [completion.key for completion in outcomes.release(at_end=True)] == ["b"]
    assert [completion.key for completion in outcomes.drop_doubtful()] == ["a"]
    assert outcomes.held == 0


def test_no_more_than_a_hundred_are_held():
    outcomes = Outcomes("http://host/v1")
    most = released = 0
    for _ in range(1_000):
        outcomes.add_answer()
        outcomes.keep(TOO_LONG, complete())
        assert outcomes.judge() is None
        most = max(most, outcomes.held)
        released += len(outcomes.release())
    assert (most, released) == (100, 1_000)


def test_half_may_fail_and_not_one_more():
    outcomes = Outcomes("http://host/v1")
    for _ in range(50):
        outcomes.add_answer()
        outcomes.keep(TOO_LONG, complete())
        assert outcomes.judge() is None
    outcomes.keep(TOO_LONG, complete())  # the oldest of the last hundred, an answer, is forgotten
    assert isinstance(outcomes.judge(), ModelMisconfigured)


def test_fewer_than_twenty_tell_nothing():
    outcomes = Outcomes("http://host/v1")
    for _ in range(19):
        outcomes.keep(TOO_LONG, complete())
        assert outcomes.judge() is None
    outcomes.keep(TOO_LONG, complete())
    assert str(outcomes.judge()) == (
        "20 of the last 20 calls to the model endpoint http://host/v1 failed (context_length 20); last: HTTP 400 (too "
        "long). Wanted: answers to at least half of them. To do: correct the parameters or the model in the connection "
        "persona_hub_llm."
    )


@pytest.mark.parametrize(("kept", "down", "kind"), [(11, 9, ModelMisconfigured), (9, 11, ModelUnavailable)])
def test_the_greater_part_says_who_must_act(kept, down, kind):
    outcomes = Outcomes("http://host/v1")
    for _ in range(kept):
        outcomes.keep(TOO_LONG, complete())
    for _ in range(down):
        outcomes.add_failure(DOWN)
    error = outcomes.judge()
    assert type(error) is kind
    assert error.retry_helps is (kind is ModelUnavailable)


def test_an_endpoint_without_room_is_no_failing_one():
    outcomes = Outcomes("http://host/v1")
    for _ in range(30):
        outcomes.add_failure(FULL)
    assert outcomes.judge() is None
