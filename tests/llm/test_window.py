from __future__ import annotations

import random

import pytest

from persona_hub.llm import window as module
from persona_hub.llm.window import Window


@pytest.fixture(autouse=True)
def real_start(monkeypatch):
    monkeypatch.setattr(module, "START", 0.25)


def fill(window):
    while window.has_room:
        window.take()


def grow(window, answers):
    """Answers to a window that is kept full."""
    for _ in range(answers):
        fill(window)
        window.grow()
        window.leave()


def test_begins_small_and_doubles_until_it_is_refused():
    window = Window(64)
    assert window.size == 16
    grow(window, 16)
    assert window.size == 32
    grow(window, 32)
    assert window.size == 64


def test_never_passes_its_most():
    assert [Window(most).size for most in (1, 2, 4, 8)] == [1, 1, 1, 2]
    window = Window(20)
    grow(window, 1_000)
    assert window.size == 20


def test_has_room_for_its_size():
    window = Window(8)
    window.take()
    assert window.has_room
    window.take()
    assert not window.has_room
    window.leave()
    assert window.has_room


def test_what_is_not_used_does_not_grow():
    window = Window(64)
    for _ in range(50):
        window.take()
        window.grow()
        window.leave()
    assert window.size == 16


def test_a_congestion_cuts_once():
    window = Window(64)
    window.cut(sent_at=1.0, now=2.0)
    assert window.size == 12
    for _ in range(11):
        window.cut(sent_at=1.9, now=2.1)  # sent before the cut: the same congestion
    assert window.size == 12
    window.cut(sent_at=2.1, now=2.2)
    assert window.size == 9


def test_after_a_cut_it_grows_by_one_with_each_window_of_answers():
    window = Window(64)
    window.cut(sent_at=1.0, now=2.0)
    grow(window, 13)
    assert window.size == 13
    grow(window, 14)
    assert window.size == 14


def test_a_cut_may_leave_less_room_than_is_taken():
    window = Window(8)
    fill(window)
    assert not window.is_overfull
    window.cut(sent_at=1.0, now=2.0)
    assert window.is_overfull
    window.leave()
    assert not window.is_overfull


def test_one_call_is_always_allowed():
    window = Window(64)
    for second in range(20):
        window.cut(sent_at=second + 0.5, now=second + 0.6)
    assert (window.size, window.at_floor, window.has_room) == (1, True, True)


def test_after_a_sickness_it_begins_small_again():
    window = Window(64)
    grow(window, 200)
    window.restart()
    assert window.size == 16
    grow(window, 16)
    assert window.size == 32


@pytest.mark.parametrize("controllers", [1, 4])
def test_finds_what_the_endpoint_takes(controllers):
    """Rounds of one latency each against an endpoint that takes 128 at once and refuses the rest."""
    chance = random.Random(0)
    windows = [Window(512) for _ in range(controllers)]
    used = refused = sent = 0
    for moment in range(400):
        for window in windows:
            fill(window)
        flying = [window for window in windows for _ in range(window.taken)]
        chance.shuffle(flying)
        for place, window in enumerate(flying):
            if place < 128:
                window.grow()
            else:
                window.cut(sent_at=moment, now=moment + 0.5)
            window.leave()
        if moment >= 100:
            used += min(128, len(flying))
            refused += max(0, len(flying) - 128)
            sent += len(flying)
    assert used / (300 * 128) >= 0.85
    assert refused / sent <= 0.02
