"""Ending a process with all that it started, gently first."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For a child between fork and exec: SIGTERM it when its parent is gone, even by SIGKILL (Linux's prctl)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_process_group(group: int, seconds: float, output: int, report: Callable[[str], None]) -> bool:
    """Sends SIGTERM to a group, waits for it to end, and then sends SIGKILL.

    Args:
        group: id of the process group.
        seconds: how long to wait.
        output: file descriptor of what the group prints; read meanwhile, or a full pipe would hold it up.
        report: gets each line of that.

    Returns:
        Whether it ended by itself.
    """
    _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    open_output = True
    while (alive := is_group_alive(group)) and (left := deadline - time.monotonic()) > 0:
        pause = min(0.1, left)
        if open_output and select.select([output], [], [], pause)[0]:
            chunk = os.read(output, 65_536)
            open_output = bool(chunk)
            for line in chunk.decode("utf-8", "replace").splitlines():
                report(line)
        elif not open_output:
            time.sleep(pause)
    if alive:
        _signal_group(group, signal.SIGKILL)
    return not alive


def is_group_alive(group: int) -> bool:
    """Whether a process of the group still runs; a zombie that nobody has collected does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # pid (name) state parent group ...; the name may hold spaces and brackets
            state, _, its_group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
