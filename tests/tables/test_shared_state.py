"""One file changed by several processes, some of which are killed."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import resource
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from persona_hub.errors import LakeError
from persona_hub.tables.shared_state import PLACES, SharedState, is_gone, name_holder

COUNT_UP = """
import sys
from pathlib import Path
from tests_count import Count
from persona_hub.tables.shared_state import SharedState
state = SharedState(Path(sys.argv[1]), Count, lambda was_broken: Count())
for number in range(int(sys.argv[2])):
    with state.change() as count:
        count.number += 1
        count.words = ["x" * 500] * (count.number % 40)
    print(number + 1, flush=True)
"""
COUNT = """
from dataclasses import dataclass, field
@dataclass
class Count:
    number: int = 0
    words: list[str] = field(default_factory=list)
"""


@dataclass
class Count:
    number: int = 0
    words: list[str] = field(default_factory=list)


def open_state(file: Path, begun: list[bool] | None = None) -> SharedState[Count]:
    def begin(was_broken: bool) -> Count:
        if begun is not None:
            begun.append(was_broken)
        return Count()

    return SharedState(file, Count, begin)


def start_counting(folder: Path, times: int) -> subprocess.Popen[str]:
    if not (module := folder / "tests_count.py").exists():  # another process may be importing it
        module.write_text(COUNT)
    return subprocess.Popen(
        [sys.executable, "-c", COUNT_UP, str(folder / "state"), str(times)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_no_change_is_lost_nor_done_twice_though_some_are_killed(tmp_path: Path) -> None:
    steady, *doomed = [start_counting(tmp_path, times) for times in (250, 1_000_000, 1_000_000)]
    said = []
    for process in doomed:
        assert process.stdout and process.stdout.readline() == "1\n"
        time.sleep(random.random() / 10)
        process.kill()
        said.append(["1", *process.stdout.read().split()][-1])
    assert steady.stdout and steady.stdout.read().split()[-1] == "250"
    with open_state(tmp_path / "state").change() as count:
        # A killed one may have changed it once more than it came to say.
        assert 0 <= count.number - 250 - sum(map(int, said)) <= len(doomed)
    for process in (steady, *doomed):
        process.communicate()


def test_an_error_inside_changes_nothing(tmp_path: Path) -> None:
    state = open_state(tmp_path / "a" / "state")
    with state.change() as count:
        count.number = 7
    with pytest.raises(ZeroDivisionError), state.change() as count:
        count.number = 8
        raise ZeroDivisionError
    with state.change() as count:
        assert count.number == 7


def test_a_write_cut_in_the_middle_leaves_the_state_before(tmp_path: Path) -> None:
    begun: list[bool] = []
    state = open_state(tmp_path / "state", begun)
    for number in (1, 2):
        with state.change() as count:
            assert count.number == number - 1
            count.number, count.words = number, ["x"] * 30_000  # more than is read at once
    newest = b"2 "
    with (tmp_path / "state").open("r+b") as file:
        place = next(place for place in PLACES if file.seek(place) == place and file.read(2) == newest)
        file.seek(place + 50_000)
        file.write(b"\0" * 100)
    with state.change() as count:
        assert (count.number, len(count.words)) == (1, 30_000)
    with state.change() as count:
        assert count.number == 1
    assert begun == [False]


OTHER = b'{"number": "lots"}'


@pytest.mark.parametrize("content", [b"{}", b"\0" * 10, b"1 2 3 4\n", b"1 18 %d\n%s" % (zlib.crc32(OTHER), OTHER)])
def test_a_broken_file_says_so_is_kept_aside_and_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "x.state").write_bytes(content)
    begun: list[bool] = []
    with caplog.at_level(logging.ERROR), open_state(tmp_path / "x.state", begun).change() as count:
        count.number = 3
    assert begun == [True]
    assert f"{tmp_path}/x.state is broken" in caplog.text
    assert (tmp_path / "x.broken").read_bytes() == content
    with open_state(tmp_path / "x.state", begun).change() as count:
        assert count.number == 3
    assert begun == [True]


def test_a_disk_that_takes_no_more_is_an_error_and_harms_nothing(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    for number in (1, 2):
        with state.change() as count:
            count.number = number
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
        with pytest.raises(LakeError) as raised, state.change() as count:
            count.number, count.words = 3, ["x"] * 1_000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(raised.value).startswith(f"{tmp_path}/state cannot be changed (")
    assert "see to the disk and its permissions" in str(raised.value)
    with state.change() as count:
        assert count.number == 2


def test_a_lock_that_nobody_gives_back_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_hub.tables.shared_state.LOCK_PATIENCE_S", 0.05)
    state = open_state(tmp_path / "state")
    with state.change():
        pass
    with (tmp_path / "state").open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(LakeError, match="has been locked for .*end it"), state.change():
            pass
    with state.change() as count:
        assert count == Count()


def test_says_who_is_gone() -> None:
    me, now = name_holder(), time.time()
    assert name_holder() != me
    assert not is_gone(me, now + 1, now)
    assert is_gone(me, now - 1, now)  # silent
    host, pid, started, _ = me.rsplit(":", 3)
    assert is_gone(f"{host}:{pid}:{int(started) - 1}:x", now + 1, now)  # an earlier process of that number
    assert is_gone(f"{host}:{2**22 + 1}:{started}:x", now + 1, now)
    assert not is_gone(f"elsewhere:{2**22 + 1}:{started}:x", now + 1, now)  # only its silence tells
