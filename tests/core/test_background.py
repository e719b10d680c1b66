"""What is repeated beside a block: until it ends, however it ends, and not afterwards."""

import threading
import time

import pytest

from persona_hub.core.background import repeat


def test_repeats_in_a_named_thread_until_the_block_ends() -> None:
    names, thrice = list[str](), threading.Event()

    def act() -> None:
        names.append(threading.current_thread().name)
        if len(names) == 3:
            thrice.set()

    with repeat(act, 0.001, "watch"):
        assert thrice.wait(10)
    count = len(names)
    assert set(names) == {"watch"}
    time.sleep(0.02)
    assert len(names) == count


def test_a_short_block_ends_at_once_and_acts_never() -> None:
    acts, begun = list[int](), time.monotonic()
    with repeat(lambda: acts.append(1), 60, "watch"):
        pass
    assert (acts, time.monotonic() - begun < 5) == ([], True)


def test_an_error_of_the_block_ends_it_too() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), repeat(lambda: None, 60, "watch"):
        raise KeyboardInterrupt
    assert threading.active_count() == before


def test_an_action_under_way_is_waited_for() -> None:
    entered, done = threading.Event(), list[int]()

    def act() -> None:
        entered.set()
        time.sleep(0.05)
        done.append(1)

    with repeat(act, 0.001, "watch"):
        assert entered.wait(10)
    assert done
