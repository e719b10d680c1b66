"""One host's limits over threads and processes: never passed, given back by the dead, and said when they bite."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crawl_server import Request, make_access, run_crawl_server

from persona_hub.crawl import turns
from persona_hub.crawl.files import open_file
from persona_hub.crawl.turns import Door, Waiting, close_door, count_waited, knock, take_turn
from persona_hub.tables.shared_state import name_holder

READ = """
import sys
from pathlib import Path
from crawl_server import make_access
from persona_hub.crawl.files import open_file
access = make_access(Path(sys.argv[2]), max_connections=int(sys.argv[3]), requests_per_second=float(sys.argv[4]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[5])):
    with open_file(sys.argv[1], f"{number}.wet", access) as stream:
        stream.read()
"""
HOLD = """
import sys
from pathlib import Path
from crawl_server import make_access
from persona_hub.crawl.turns import take_turn
turn = take_turn("a.example", make_access(Path(sys.argv[1]), max_connections=1))
print("in", flush=True)
sys.stdin.readline()
"""


def release(processes: list[subprocess.Popen[str]]) -> None:
    """Lets them begin together, and waits for their end."""
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0] * len(processes)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("most", [1, 3])
def test_processes_never_open_more_connections_together(tmp_path: Path, most: int) -> None:
    open_now, seen, lock = [0], [0], threading.Lock()

    def answer_slowly(request: Request) -> None:
        with lock:
            open_now[0] += 1
            seen.append(open_now[0])
        time.sleep(0.05)
        with lock:  # before the answer: after it the reader may be gone before we are
            open_now[0] -= 1
        request.serve()

    with run_crawl_server() as server:
        for number in range(6):
            server.files[f"/{number}.wet"] = b"WARC/1.0\r\n"
            server.spoil(f"/{number}.wet", *[answer_slowly] * 4)
        processes = [start(READ, server.url, tmp_path, most, 10_000, 6) for _ in range(4)]
        release(processes)
        assert len(server.asked) == 24
        assert max(seen) == most


def test_processes_never_send_more_requests_a_second_together(tmp_path: Path) -> None:
    with run_crawl_server() as server:
        for number in range(6):
            server.files[f"/{number}.wet"] = b"WARC/1.0\r\n"
        processes = [start(READ, server.url, tmp_path, 8, 20, 6) for _ in range(3)]
        release(processes)
        moments = sorted(asked.at for asked in server.asked)
    assert len(moments) == 18
    # 18 reserved moments, 50 ms apart; a request may be late on its way, so single gaps say nothing.
    assert moments[-1] - moments[0] >= 17 * 0.05 - 0.1
    assert max(sum(moment <= other < moment + 0.5 for other in moments) for moment in moments) <= 10 + 4


def test_dead_process_gives_its_connection_back(tmp_path: Path) -> None:
    process = start(HOLD, tmp_path)
    assert process.stdout and process.stdout.readline() == "in\n"
    access, entered = make_access(tmp_path, max_connections=1), threading.Event()
    taker = threading.Thread(target=lambda: (take_turn("a.example", access).release(), entered.set()))
    taker.start()
    assert not entered.wait(0.6)
    process.kill()
    process.wait()
    assert entered.wait(2)
    taker.join()


def test_hosts_have_limits_of_their_own(tmp_path: Path) -> None:
    access = make_access(tmp_path, max_connections=1)
    held = [take_turn(host, access) for host in ("a.example", "a.example:81", "b.example")]
    assert sorted(path.name for path in (tmp_path / "_limits").iterdir()) == [
        "host-a.example.state",
        "host-a.example_81.state",
        "host-b.example.state",
    ]
    for turn in held:
        turn.release()


def test_who_waits_longest_is_first(tmp_path: Path) -> None:
    access = make_access(tmp_path, max_connections=1)
    door, (first, second, third) = Door(), (name_holder() for _ in range(3))
    assert knock(door, access, first, 100.0).entered
    assert not knock(door, access, second, 100.1).entered
    assert not knock(door, access, third, 100.2).entered
    del door.inside[first]
    assert not knock(door, access, third, 100.3).entered
    assert knock(door, access, second, 100.4).entered
    del door.inside[second]
    assert knock(door, access, third, 100.5).entered
    assert not door.waiting


def test_who_went_away_keeps_nobody_waiting(tmp_path: Path) -> None:
    access = make_access(tmp_path, max_connections=1)
    door = Door(waiting={"elsewhere:1:1:a": Waiting(100.0, 100.0)}, inside={"elsewhere:1:1:b": 110.0})
    me = name_holder()
    assert not knock(door, access, me, 109.0).entered
    assert list(door.waiting) == [me]
    assert knock(door, access, me, 110.5).entered
    assert list(door.inside) == [me]


def test_moments_lie_apart_and_a_clock_set_back_stops_nobody(tmp_path: Path) -> None:
    access = make_access(tmp_path, max_connections=9, requests_per_second=4.0)
    door = Door()
    assert [knock(door, access, name_holder(), 100.0).wait_s for _ in range(4)] == [0, 0.25, 0.5, 0.75]
    assert knock(door, access, name_holder(), 100.75).wait_s == 0.25
    door.next_request = 90_000.0
    assert knock(door, access, name_holder(), 101.0).wait_s == 0


def test_silent_holder_is_told_that_its_turn_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "RENEW_S", 0.0)
    access = make_access(tmp_path, max_connections=1)
    turn = take_turn("a.example", access)
    assert turn.renew()
    with turn._state.change() as door:
        door.inside.clear()
    assert not turn.renew()


def test_reader_that_lost_its_turn_goes_on_over_a_new_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "RENEW_S", 0.0)
    access, content = make_access(tmp_path), os.urandom(2_000_000)
    with run_crawl_server() as server:
        server.files["/x.wet"] = content
        with open_file(server.url, "x.wet", access) as stream:
            data = stream.read(500_000)
            for state in (tmp_path / "_limits").iterdir():
                state.unlink()
            assert data + stream.read() == content
        assert len(server.asked) == 2


def test_waiting_is_logged_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turns, "SAY_FIRST_S", 0.3)
    access, before, began = make_access(tmp_path, max_connections=2), count_waited(), time.monotonic()
    held = [take_turn("a.example", access) for _ in range(2)]
    assert count_waited() - before < 0.05
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take_turn, "a.example", access)
        time.sleep(0.8)
        assert 0.4 < count_waited() - before < time.monotonic() - began
        held.pop().release()
        waiting.result().release()
    [record] = caplog.records
    assert re.fullmatch(
        r"waiting for a turn at a\.example for \d s: 2 of 2 connections are open", record.getMessage()
    )


def test_closed_door_lets_nobody_send(tmp_path: Path) -> None:
    access = make_access(tmp_path)
    close_door("a.example", access, 0.5)
    began = time.monotonic()
    take_turn("a.example", access).release()
    assert time.monotonic() - began >= 0.49
    close_door("a.example", access, -100)
    take_turn("a.example", access).release()
    assert time.monotonic() - began < 10


def test_long_wait_for_a_request_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turns, "SAY_FIRST_S", 0.3)
    access = make_access(tmp_path)
    with caplog.at_level(logging.WARNING):
        take_turn("a.example", access).release()
        assert not caplog.records
        close_door("a.example", access, 0.5)
        take_turn("a.example", access).release()
    [record] = caplog.records
    assert re.fullmatch(r"waiting [01] s to ask a\.example: it wants a pause, or .* 10000 requests a second", record.getMessage())


def test_slow_rate_is_no_clock_that_was_set_back(tmp_path: Path) -> None:
    access, door = make_access(tmp_path, requests_per_second=0.001, max_connections=4), Door()
    waits = [knock(door, access, f"other:{number}:0:x", 1_000_000.0).wait_s for number in range(4)]
    assert waits == pytest.approx([0, 1_000, 2_000, 3_000])


def test_clock_that_is_set_back_keeps_nobody_waiting_behind_the_dead(tmp_path: Path) -> None:
    access, door, now = make_access(tmp_path, max_connections=1), Door(), 1_000_000.0
    assert knock(door, access, "other-a:1:0:x", now).entered
    for name in ("other-b:1:0:x", "other-c:1:0:x"):
        assert not knock(door, access, name, now).entered
        now += 1
    now -= 3_600  # a and b are dead, c goes on asking
    waited = next(second for second in range(5_000) if knock(door, access, "other-c:1:0:x", now + second).entered)
    assert waited <= turns.LONGEST_QUEUE_S + access.timeout_s + turns.SILENCE_S + 1
