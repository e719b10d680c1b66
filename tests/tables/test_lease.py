"""Leases between real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persona_hub.errors import LeaseHeld, LeaseLost
from persona_hub.tables.lease import hold_lease

INCREMENT = """
import sys, time
from pathlib import Path
from persona_hub.tables.lease import hold_lease
counter = Path(sys.argv[1], "counter")
for _ in range(25):
    with hold_lease(sys.argv[1], "gold.personas") as lease:
        count = int(counter.read_text())
        time.sleep(0.002)  # two at once would read the same
        lease.verify()
        counter.write_text(str(count + 1))
"""
HOLD = """
import sys
from persona_hub.errors import LeaseLost
from persona_hub.tables.lease import hold_lease
with hold_lease(sys.argv[1], "gold.personas", ttl_s=float(sys.argv[2])) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lease.verify()
        print("mine", flush=True)
    except LeaseLost as error:
        print("lost:", error, flush=True)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def run(code: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def start_holder(start: Start, lake: Path, ttl_s: float) -> subprocess.Popen[str]:
    holder = start(HOLD, lake, ttl_s)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    return holder


def ask(holder: subprocess.Popen[str]) -> str:
    """Lets the holder verify; what it says."""
    return holder.communicate("go\n", timeout=10)[0]


def test_four_processes_lose_no_increment(tmp_path: Path, start: Start) -> None:
    (tmp_path / "counter").write_text("0")
    workers = [start(INCREMENT, tmp_path) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    assert (tmp_path / "counter").read_text() == "100"
    # What is left behind is a lease or two, not a hundred.
    assert len(list((tmp_path / "_leases" / "gold.personas").iterdir())) <= 2


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "zombie"])
def test_a_killed_holder_is_taken_over_at_once(tmp_path: Path, start: Start, reaped: bool) -> None:
    holder = start_holder(start, tmp_path, 60)
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    if reaped:
        holder.wait()
    begun = time.monotonic()
    with hold_lease(str(tmp_path), "gold.personas", wait_s=5) as lease:
        lease.verify()
    assert time.monotonic() - begun < 2


def test_a_silent_holder_is_taken_over_when_its_time_is_up_and_knows_it(tmp_path: Path, start: Start) -> None:
    holder = start_holder(start, tmp_path, 0.9)
    holder.send_signal(signal.SIGSTOP)  # as a machine that swaps, or a long pause of its garbage collector
    with pytest.raises(LeaseHeld), hold_lease(str(tmp_path), "gold.personas", wait_s=0):
        pass
    with hold_lease(str(tmp_path), "gold.personas", wait_s=10) as lease:
        holder.send_signal(signal.SIGCONT)
        told = ask(holder)
        assert told.startswith("lost: Lease gold.personas (number 1, ")
        assert "run the task again" in told
        lease.verify()  # what the loser does with its own lease, renewing and giving back, does not touch ours
        number = lease.number
    with hold_lease(str(tmp_path), "gold.personas", wait_s=0) as lease:
        assert (number, lease.number) == (2, 3)  # numbers are never used again


def test_a_living_holder_renews_and_is_named(tmp_path: Path, start: Start) -> None:
    holder = start_holder(start, tmp_path, 0.6)
    begun = time.monotonic()
    with pytest.raises(LeaseHeld) as raised, hold_lease(str(tmp_path), "gold.personas", wait_s=1.5):
        pass
    assert time.monotonic() - begun >= 1.5  # more than twice its time to live
    assert f"Lease gold.personas is held by {socket.gethostname()}:{holder.pid}:" in str(raised.value)
    assert "it to be free within 2 s" in str(raised.value)
    assert ask(holder) == "mine\n"


def test_a_lease_given_back_is_free_and_lost(tmp_path: Path) -> None:
    with hold_lease(str(tmp_path), "a/b") as first:
        with hold_lease(str(tmp_path), "a/c", wait_s=0):  # another name is another lease
            first.verify()
        with pytest.raises(LeaseHeld), hold_lease(str(tmp_path), "a/b", wait_s=0):
            pass
    with hold_lease(str(tmp_path), "a/b", wait_s=0), pytest.raises(LeaseLost):
        first.verify()


def test_an_error_inside_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_lease(str(tmp_path), "x"):
        raise ZeroDivisionError
    with hold_lease(str(tmp_path), "x", wait_s=0):
        pass


def test_an_unreadable_lease_is_held_until_it_is_old(tmp_path: Path) -> None:
    file = tmp_path / "_leases" / "x" / "1"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\x00")
    with pytest.raises(LeaseHeld, match="an unknown process"), hold_lease(str(tmp_path), "x", wait_s=0, ttl_s=30):
        pass
    os.utime(file, (0, 0))
    with hold_lease(str(tmp_path), "x", wait_s=0, ttl_s=30) as lease:
        assert lease.number == 2
