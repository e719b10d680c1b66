"""bespokelabs-curator and the OpenAI cookbook's parallel processor beside ours, at the same endpoint in the same run.

The peers run in an environment of their own, made once in .hub/bench-peers. The cookbook's script is on no registry:
say where it lies with --cookbook. Both count tokens with the vocabulary that comes with litellm, so nothing is fetched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from bench_tools import CHECKOUT, HERE, Figure, keep_awake, run_endpoint
from endpoint_process import EndpointProcess

WINDOW, LATENCY_S, KILLS = 64, 1.0, 3
PACKAGES = ("bespokelabs-curator==0.1.31", "setuptools<80")
HOME = CHECKOUT / ".hub" / "bench-peers"
# No telemetry, no price list, no data set from outside.
OFFLINE = {"TELEMETRY_ENABLED": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Peer:
    """A program that asks `count` questions: `command URL WINDOW COUNT FOLDER`.

    Attributes:
        first_statuses: what its calls before the first question are answered with.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    first_statuses: tuple[int, ...] = ()


def measure(size: float, cookbook: Path | None) -> list[Figure]:
    """Args: size: share of the real number of calls; cookbook: the cookbook's script, left out if None."""
    peers = find_peers(cookbook)
    with keep_awake():
        speeds = [figure for peer in peers for figure in measure_speed(peer, max(8 * WINDOW, int(1_500 * size)))]
    return speeds + [measure_kills(peer, max(1, int(KILLS * size))) for peer in peers]


def find_peers(cookbook: Path | None) -> list[Peer]:
    python, vocabulary = install_peers()
    peers = [
        Peer("ours", (sys.executable, str(HERE / "peer_ours.py")), {}),
        # It first asks nothing, for the headers of a limit; at OpenAI's that is a 400.
        Peer("curator", (python, str(HERE / "peer_curator.py")), OFFLINE | {"TIKTOKEN_CACHE_DIR": vocabulary}, (400,)),
    ]
    if cookbook:
        command = (python, str(HERE / "peer_cookbook.py"), str(cookbook.resolve()))
        peers.append(Peer("cookbook", command, {"TIKTOKEN_CACHE_DIR": vocabulary}))
    return peers


def install_peers() -> tuple[str, str]:
    """The peers' Python, and the folder of the vocabularies."""
    python = HOME / "env" / "bin" / "python"
    uv = str(CHECKOUT / ".hub" / "tools" / "bin" / "uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(HOME / "env")], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
    [vocabulary] = HOME.glob("env/lib/*/site-packages/litellm/litellm_core_utils/tokenizers")
    return str(python), str(vocabulary)


def measure_speed(peer: Peer, count: int) -> list[Figure]:
    with run_endpoint(latency_s=LATENCY_S) as endpoint, tempfile.TemporaryDirectory() as folder:
        seen = watch(start(peer, endpoint, count, folder), endpoint, Path(folder, "log"))
    assert seen[-1]["answered"] == count, (peer.name, seen[-1], count)
    first = next(sample for sample in seen if sample["calls"] > len(peer.first_statuses))
    last = next(sample for sample in seen if sample["answered"] == count)
    full, ebb = (next(each for each in seen if each["answered"] >= mark) for mark in (4 * WINDOW, count - WINDOW))
    steady = (ebb["answered"] - full["answered"]) / (ebb["at"] - full["at"])
    name = f"{peer.name}, {count:,} calls, {WINDOW} in flight × {LATENCY_S:g} s"
    return [
        Figure(f"{name}: calls a second, ramp and end included", count / (last["at"] - first["at"]), "/s"),
        Figure(f"{name}: calls a second between", steady, "/s"),
        Figure(f"{name}: share of the ideal", steady * LATENCY_S / WINDOW),
        Figure(f"{name}: most in flight", last["most_in_flight"]),
        Figure(f"{name}: CPU per call", 1000 * (last["cpu_s"] - first["cpu_s"]) / count, "ms"),
    ]


def measure_kills(peer: Peer, kills: int) -> Figure:
    """Each killed by SIGKILL with all that it has started, a bit later each time, then run to its end."""
    counts = [run_twice(peer, 8 * WINDOW, 3 * WINDOW + place * 29) for place in range(kills)]
    answered, again = (sum(column) for column in zip(*counts, strict=True))
    name = f"{peer.name}, killed {kills} times with {answered} of {8 * WINDOW * kills} answered: answered again"
    return Figure(name, again)


def run_twice(peer: Peer, count: int, answers: int) -> tuple[int, int]:
    """Kills it after so many answers; those that there were then, and those that were paid twice in the end."""
    with run_endpoint(latency_s=LATENCY_S, jitter=0.3) as endpoint, tempfile.TemporaryDirectory() as folder:
        process = start(peer, endpoint, count, folder)
        while endpoint.stats()["answered"] < answers:
            if process.poll() is not None:
                raise RuntimeError(f"{peer.name} ended before it was killed: {Path(folder, 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.2)
        before = endpoint.stats()["answered"]
        watch(start(peer, endpoint, count, folder), endpoint, Path(folder, "log"))
        stats = endpoint.stats()
    assert stats["answered"] - stats["duplicates"] == count, (peer.name, stats)
    return before, stats["duplicates"]


def start(peer: Peer, endpoint: EndpointProcess, count: int, folder: str) -> subprocess.Popen[bytes]:
    if peer.first_statuses:
        endpoint.control(status_script=list(peer.first_statuses))
    command = [*peer.command, endpoint.url, str(WINDOW), str(count), folder]
    environment = os.environ | {"HOME": folder} | peer.environment
    with Path(folder, "log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)


def watch(process: subprocess.Popen[bytes], endpoint: EndpointProcess, log: Path) -> list[dict[str, Any]]:
    """The endpoint's counts every 50 ms until the process ends, with `at` and the `cpu_s` of its whole family."""
    seen = []
    family = psutil.Process(process.pid)
    while process.poll() is None:
        seen.append(endpoint.stats() | {"at": time.monotonic(), "cpu_s": find_cpu_s(family)})
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {log.read_text()[-2000:]}")
    return seen


def find_cpu_s(family: psutil.Process) -> float:
    try:
        times = [family.cpu_times(), *(child.cpu_times() for child in family.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(each.user + each.system for each in times))
