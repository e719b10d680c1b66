"""The endpoint's limits: never passed, fair, and given back by the dead."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from persona_hub.llm.limits import SILENCE_S, Bucket, EndpointLimits, Room, find_level, name_endpoint, serve
from persona_hub.settings import LlmSettings
from persona_hub.tables.shared_state import name_holder

HOLD = """
import json, sys
from persona_hub.llm.limits import EndpointLimits
from persona_hub.tables.shared_state import name_holder
from persona_hub.settings import LlmSettings
limits = EndpointLimits(sys.argv[1], LlmSettings(**json.loads(sys.argv[2])), name_holder())
print(limits.exchange(0, [1.0] * int(sys.argv[3])).granted, flush=True)
sys.stdin.readline()
"""
URL = "http://127.0.0.1:1/v1"


def make_settings(**settings: object) -> LlmSettings:
    return LlmSettings.model_validate({"base_url": URL} | settings)


def open_limits(lake: Path, **settings: object) -> EndpointLimits:
    return EndpointLimits(str(lake), make_settings(**settings), name_holder())


def start_holder(lake: Path, calls: int, **settings: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lake), json.dumps({"base_url": URL} | settings), str(calls)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == f"{calls}\n"
    return process


@pytest.mark.parametrize(
    ("total", "demands", "level"),
    [
        (10, [], float("inf")),
        (10, [3, 4], float("inf")),
        (10, [5, 5], float("inf")),
        (10, [2, 20], 8),
        (10, [20, 2, 3], 5),
        (9, [100, 100, 100], 3),
        (1, [5, 5], 0.5),
        (0, [5], 0),
        (-4, [5], 0),
    ],
)
def test_who_wants_little_gets_it_the_others_share(total: float, demands: list[float], level: float) -> None:
    assert find_level(total, demands) == level


def test_slots_are_shared_and_follow_who_wants_them(tmp_path: Path) -> None:
    large, small = (open_limits(tmp_path, max_in_flight=10) for _ in range(2))
    assert large.exchange(0, [1.0] * 64).granted == 10
    assert small.exchange(0, [1.0] * 3).granted == 0
    # Three of the large one's come home: they are the small one's, which wants less than half.
    assert large.exchange(7, [1.0] * 57).granted == 0
    assert small.exchange(0, [1.0] * 3).granted == 3
    assert small.exchange(1, []).granted == 0
    assert large.exchange(7, [1.0] * 57).granted == 2
    assert small.exchange(0, []).granted == 0
    assert large.exchange(9, [1.0] * 55).granted == 1


def test_fewer_slots_than_holders_are_taken_in_turns(tmp_path: Path) -> None:
    holders = [open_limits(tmp_path, max_in_flight=1) for _ in range(3)]
    served, held = [], [0, 0, 0]
    for step in range(36):
        turn = step % 3
        held[turn] = holders[turn].exchange(0, [1.0] * 4).granted  # what it held has come home
        assert sum(held) <= 1
        served += [turn] * held[turn]
    assert served == [0, 1, 2] * 3


def test_limits_are_of_an_address_and_a_model(tmp_path: Path) -> None:
    one, other = open_limits(tmp_path, max_in_flight=1, model="a"), open_limits(tmp_path, max_in_flight=1, model="b")
    assert (one.exchange(0, [1.0]).granted, other.exchange(0, [1.0]).granted) == (1, 1)
    assert sorted(file.suffix for file in (tmp_path / "_limits").iterdir()) == [".state", ".state"]
    here = name_endpoint(make_settings(model="a"))
    assert here == name_endpoint(make_settings(model="a", base_url="http://me:secret@127.0.0.1:1/v1/"))
    assert here != name_endpoint(make_settings(model="a", base_url="http://127.0.0.1:2/v1"))


def test_a_killed_holder_gives_its_slots_back_at_once(tmp_path: Path) -> None:
    holder = start_holder(tmp_path, 4, max_in_flight=5)
    limits = open_limits(tmp_path, max_in_flight=5)
    assert limits.exchange(0, [1.0] * 5).granted == 1
    holder.kill()  # not waited for: it stays listed, as in a container without an init
    held, deadline = 1, time.monotonic() + 10
    while held < 5 and time.monotonic() < deadline:
        held += limits.exchange(held, [1.0] * (5 - held)).granted
    assert held == 5
    holder.communicate()


def test_a_stopped_holder_keeps_its_slots_as_long_as_its_calls_may_last() -> None:
    settings, now = make_settings(max_in_flight=5, timeout_s=60), 1e9
    stopped, other, room = name_holder(), name_holder(), Room()
    assert serve(room, settings, stopped, 0, [1.0] * 5, 0.0, now).granted == 5
    assert serve(room, settings, other, 0, [1.0], 0.0, now + 60 + SILENCE_S).granted == 0
    assert serve(room, settings, other, 0, [1.0], 0.0, now + 61 + SILENCE_S).granted == 1
    # It wakes, has nothing in flight any more, and is one among others again.
    assert serve(room, settings, stopped, 0, [1.0] * 9, 0.0, now + 62 + SILENCE_S).granted == 4


def test_a_want_that_is_not_repeated_holds_nobody_up() -> None:
    settings, now = make_settings(max_in_flight=10), 1e9
    quiet, busy, room = name_holder(), name_holder(), Room()
    assert serve(room, settings, busy, 0, [1.0] * 20, 0.0, now).granted == 10
    assert serve(room, settings, quiet, 0, [1.0] * 20, 0.0, now).granted == 0
    assert serve(room, settings, busy, 6, [1.0] * 20, 0.0, now + 0.9).granted == 0
    assert serve(room, settings, busy, 6, [1.0] * 20, 0.0, now + 1.1).granted == 4


def test_after_a_broken_file_nobody_starts_before_the_living_are_back(tmp_path: Path) -> None:
    limits, other = open_limits(tmp_path, max_in_flight=4), open_limits(tmp_path, max_in_flight=4)
    assert limits.exchange(0, [1.0] * 4).granted == 4
    file = next((tmp_path / "_limits").iterdir())
    file.write_bytes(b"?")
    assert other.exchange(0, [1.0] * 4).granted == 0
    assert limits.exchange(4, []).granted == 0
    assert other.exchange(0, [1.0] * 4).granted == 0


def test_a_clock_that_went_back_does_not_close_the_endpoint() -> None:
    settings, holder = make_settings(requests_per_minute=6_000), name_holder()
    room, now = Room(), 1e9
    assert serve(room, settings, holder, 0, [1.0], 0.0, now).granted == 1
    assert serve(room, settings, holder, 0, [1.0] * 99, 0.0, now).granted < 99
    # Another host's clock, half a minute behind, fills nothing a second time.
    level = room.requests.level
    serve(room, settings, holder, 0, [], 0.0, now - 30)
    assert room.requests.level == level
    serve(room, settings, holder, 0, [], 0.0, now - 3_600)
    assert serve(room, settings, holder, 0, [1.0], 0.0, now - 3_599).granted == 1


@pytest.mark.parametrize(
    "limits",
    [
        {"requests_per_minute": 1},
        {"requests_per_minute": 7},
        {"requests_per_minute": 600, "max_in_flight": 20},
        {"tokens_per_minute": 20_000},
        {"tokens_per_minute": 90_000, "requests_per_minute": 300, "max_in_flight": 9},
    ],
    ids=lambda limits: "-".join(f"{name.split('_')[0]}{value}" for name, value in limits.items()),
)
def test_no_minute_holds_more_than_the_limit_and_little_less(limits: dict[str, int]) -> None:
    """Four holders, one of which wants four times as much, and goes away for a while; by a clock of our own."""
    settings, drawn = make_settings(**limits), random.Random(1)
    holders, room = [name_holder() for _ in range(4)], Room()
    flying: dict[str, list[float]] = {holder: [] for holder in holders}
    sends: list[tuple[float, float]] = []
    now = begun = 1e9
    while now < begun + 150:
        now += drawn.expovariate(40)
        holder = drawn.choice(holders)
        flying[holder] = [end for end in flying[holder] if end > now]
        idle = holder == holders[0] and 70 < now - begun < 85
        needs = [drawn.uniform(100, 900) for _ in range(0 if idle else 40 if holder == holders[0] else 10)]
        granted = serve(room, settings, holder, len(flying[holder]), needs, 0.0, now).granted
        flying[holder] += [now + drawn.uniform(0.1, 1.0) for _ in range(granted)]
        sends += [(now, need) for need in needs[:granted]]
        if settings.max_in_flight:
            assert sum(map(len, flying.values())) <= settings.max_in_flight
    first = count = tokens = 0
    most_count, most_tokens = 0, 0.0
    for when, need in sends:
        count, tokens = count + 1, tokens + need
        while sends[first][0] <= when - 60:
            count, tokens, first = count - 1, tokens - sends[first][1], first + 1
        most_count, most_tokens = max(most_count, count), max(most_tokens, tokens)
    assert most_count <= (settings.requests_per_minute or most_count)
    assert most_tokens < (settings.tokens_per_minute or most_tokens) + 1
    shares = [most_count / (settings.requests_per_minute or 1e9), most_tokens / (settings.tokens_per_minute or 1e9)]
    assert max(shares) > 0.9


def test_a_call_of_more_than_half_a_minutes_tokens_is_sent_and_owed() -> None:
    settings, holder, room = make_settings(tokens_per_minute=1_000), name_holder(), Room(tokens=Bucket(filled_at=1e9))
    turns = [serve(room, settings, holder, 0, [5_000.0], 0.0, 1e9 + second) for second in range(60, 720, 10)]
    waited = [turn.granted for turn in turns]
    assert (waited.index(1), waited.index(1, 1)) == (0, 60)  # at half the limit's rate, ten minutes later


def test_a_minute_that_begins_with_a_large_call_holds_no_more_either() -> None:
    settings, holder, room = make_settings(tokens_per_minute=60_000), name_holder(), Room(tokens=Bucket(filled_at=0.0))
    taken = 30_000 * serve(room, settings, holder, 0, [30_000.0], 0.0, 1e9).granted
    assert taken == 30_000
    taken += sum(
        100 * serve(room, settings, holder, 0, [100.0] * 99, 0.0, 1e9 + tenth / 10).granted for tenth in range(600)
    )
    assert 59_000 < taken <= 60_000


def test_what_was_estimated_wrongly_is_given_back_or_owed() -> None:
    settings, holder, room = make_settings(tokens_per_minute=60_000), name_holder(), Room(tokens=Bucket(filled_at=1e9))
    assert serve(room, settings, holder, 0, [100.0] * 99, 0.0, 1e9 + 1).granted == 1
    assert serve(room, settings, holder, 1, [100.0] * 99, 0.0, 1e9 + 1).granted == 0
    assert serve(room, settings, holder, 0, [20.0] * 99, 80.0, 1e9 + 1).granted == 4
    assert serve(room, settings, holder, 3, [20.0] * 99, -480.0, 1e9 + 1.1).granted == 0
    assert serve(room, settings, holder, 3, [20.0] * 99, 0.0, 1e9 + 1.4).granted == 0
    assert serve(room, settings, holder, 3, [20.0] * 99, 0.0, 1e9 + 1.6).granted == 5
