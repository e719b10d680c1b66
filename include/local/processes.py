"""Starting, finding and ending processes: each service leads a session of its own.

A record (`NAME.json` in the run folder) holds process id and start time, so a reused id is never taken for ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from local.home import MARKER, Home
from persona_hub.errors import HubError

# A Spark driver that drains writes its last answers; Airflow's own components need about five seconds.
TERM_GRACE_S = 20.0


class NotRunning(HubError):
    """A service is not there, or did not become healthy."""


@dataclass(frozen=True)
class Record:
    """A started service. `created` is the kernel's start time in seconds."""

    pid: int
    created: float
    port: int | None

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def pick_port(preferred: int, taken: Sequence[int] = ()) -> int:
    """The preferred port on loopback, or a free one where somebody listens there; never one of `taken`."""
    for port in (preferred, *[0] * (len(taken) + 1)):
        with socket.socket() as probe:
            # As the servers do: a port in TIME_WAIT of our own last run is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found = int(probe.getsockname()[1])
                if found not in taken:
                    return found
    raise OSError(f"no free port beside {preferred} on 127.0.0.1")


def start_process(home: Home, name: str, command: Sequence[str], env: Mapping[str, str], port: int | None) -> Record:
    """Starts `command` in a session of its own, output to `logs/NAME.log`, and records it."""
    with open(home.logs / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    record = Record(process.pid, psutil.Process(process.pid).create_time(), port)
    (home.run / f"{name}.json").write_text(json.dumps(asdict(record)))
    return record


def read_record(home: Home, name: str) -> Record | None:
    """The record of a service started here, whether it still lives or not; a broken record counts as none."""
    try:
        return Record(**json.loads((home.run / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(home: Home, name: str) -> bool:
    """Whether a recorded service still lives."""
    record = read_record(home, name)
    return record is not None and record.is_alive()


def find_processes(home: Home, *, nested: bool = False) -> list[psutil.Process]:
    """Living processes of this home: in a session that a record names, or with the marker in their environment.

    The first finds what has overwritten its environment, the second what went into a session of its own, as Spark
    drivers do. Never ourselves or who started us.

    Args:
        home: whose processes.
        nested: also those of homes inside this one.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    sessions = find_sessions(home)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marker = process.environ().get(MARKER, "")
            ours = marker == str(home.path) or (nested and marker and Path(marker).is_relative_to(home.path))
            if process.pid not in own and (ours or os.getsid(process.pid) in sessions):
                found.append(process)
    return found


def find_sessions(home: Home, names: Collection[str] | None = None) -> set[int]:
    """Session ids of recorded services; the kernel gives none anew while a member lives."""
    found = set()
    for path in home.run.glob("*.json"):
        record = read_record(home, path.stem) if names is None or path.stem in names else None
        if record and (record.is_alive() or not psutil.pid_exists(record.pid)):
            found.add(record.pid)
    return found


def end_processes(processes: Sequence[psutil.Process], grace_s: float = TERM_GRACE_S) -> int:
    """Sends TERM to the process groups, waits, sends KILL to what remains. Returns how many had to be killed."""
    own_group = os.getpgrp()
    groups = set()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            groups.add(os.getpgid(process.pid))
    for group in groups - {own_group}:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    return len(alive)


def read_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, or a word that there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(no log: {error})"
