from __future__ import annotations

import pytest

from persona_hub.llm import breaker as module
from persona_hub.llm.breaker import SICK_RUN, Breaker

PAUSE_S = 1.0


@pytest.fixture(autouse=True)
def real_pauses(monkeypatch):
    """Whole pauses, no jitter: the clock is the test's own."""
    monkeypatch.setattr(module, "PAUSE_S", PAUSE_S)
    monkeypatch.setattr(module, "MAX_PAUSE_S", 30.0)
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)


def sicken(breaker, now=0.0):
    for _ in range(SICK_RUN):
        breaker.note_sick(now, was_probe=False)


def probe(breaker, now):
    assert breaker.find_wait(now) == 0
    assert breaker.begin() is True
    breaker.note_sick(now, was_probe=True)


def test_opens_after_five_in_a_row():
    breaker = Breaker(300)
    for _ in range(4):
        breaker.note_sick(0, was_probe=False)
    breaker.note_well(0)
    for _ in range(4):
        breaker.note_sick(0, was_probe=False)
    assert (breaker.is_open, breaker.find_wait(0)) == (False, 0)
    assert breaker.begin() is False
    breaker.note_sick(0, was_probe=False)
    assert (breaker.is_open, breaker.find_wait(0)) == (True, PAUSE_S)


def test_one_call_probes_at_a_time():
    breaker = Breaker(300)
    sicken(breaker)
    assert breaker.find_wait(0.4) == pytest.approx(0.6)
    assert breaker.find_wait(1.0) == 0
    assert breaker.begin() is True
    assert breaker.find_wait(1.0) == float("inf")


def test_pauses_grow_up_to_half_a_minute():
    breaker = Breaker(10_000)
    sicken(breaker)
    now, pauses = 0.0, []
    for _ in range(8):
        pauses.append(breaker.find_wait(now))
        now += pauses[-1]
        probe(breaker, now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_success_closes_it_and_the_next_pause_is_short_again():
    breaker = Breaker(300)
    sicken(breaker)
    probe(breaker, 1.0)
    assert breaker.begin() is True
    breaker.note_well(3.0)
    assert (breaker.is_open, breaker.find_wait(3.0)) == (False, 0)
    sicken(breaker, 10.0)
    assert breaker.find_wait(10.0) == PAUSE_S


def test_an_older_answer_closes_it_and_the_probe_that_fails_later_opens_nothing():
    breaker = Breaker(300)
    sicken(breaker)
    breaker.begin()
    breaker.note_well(1.0)
    breaker.note_sick(1.1, was_probe=True)
    assert not breaker.is_open


def test_calls_that_flew_when_it_opened_change_nothing():
    breaker = Breaker(300)
    sicken(breaker)
    for _ in range(50):
        breaker.note_sick(0.5, was_probe=False)
    assert breaker.find_wait(0.5) == pytest.approx(0.5)


def test_waits_as_long_as_the_server_asks():
    breaker = Breaker(300)
    for _ in range(SICK_RUN):
        breaker.note_sick(0, was_probe=False, wait_s=20)
    assert breaker.find_wait(0) == 20


def test_is_hopeless_when_patience_is_at_its_end_and_not_before():
    breaker = Breaker(10)
    sicken(breaker)
    for now in (1, 3, 7):
        probe(breaker, now)
        assert not breaker.is_hopeless
    assert breaker.find_wait(7) == 3  # the last probe at the end, not 8 s later
    probe(breaker, 10)
    assert breaker.is_hopeless


def test_short_recoveries_do_not_renew_the_patience():
    breaker = Breaker(10)
    sicken(breaker, 0)
    breaker.note_well(6)
    sicken(breaker, 7)
    assert breaker.find_wait(7) == 1
    probe(breaker, 8)
    probe(breaker, 10)
    assert not breaker.is_hopeless
    probe(breaker, 11)
    assert breaker.is_hopeless


def test_five_answers_in_a_row_renew_it():
    breaker = Breaker(10)
    sicken(breaker, 0)
    for _ in range(5):
        breaker.note_well(9)
    sicken(breaker, 20)
    probe(breaker, 25)
    assert not breaker.is_hopeless


def test_without_patience_the_first_opening_is_the_last():
    breaker = Breaker(0)
    sicken(breaker)
    assert breaker.is_hopeless
