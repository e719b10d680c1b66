"""What the benches share: the loopback endpoint as it goes, processes that call it, figures and their table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from endpoint_process import EndpointProcess

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        goal: None where it is only told; the value is to be at least this, or at most, if `at_most`.
    """

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    at_most: bool = False

    @property
    def is_met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def print_table(title: str, figures: Iterable[Figure]) -> None:
    print(f"\n| {title} | measured | goal | met |\n| --- | --- | --- | --- |")
    for figure in figures:
        goal = "" if figure.goal is None else f"{'≤' if figure.at_most else '≥'} {figure.goal:g}"
        met = {None: "", True: "yes", False: "NO"}[figure.is_met]
        value = f"{figure.value:,.0f}" if abs(figure.value) >= 10_000 else f"{figure.value:.4g}"
        print(f"| {figure.name} | {value} {figure.unit} | {goal} | {met} |", flush=True)


def write_figures(path: Path, parts: dict[str, list[Figure]]) -> None:
    """Adds to what the file holds of other parts."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored |= {part: [asdict(figure) | {"met": figure.is_met} for figure in figures] for part, figures in parts.items()}
    path.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def run_endpoint(**behaviour: Any) -> Iterator[EndpointProcess]:
    endpoint = EndpointProcess().start()
    try:
        endpoint.control(**behaviour)
        yield endpoint
    finally:
        endpoint.close()


@contextmanager
def keep_awake() -> Iterator[None]:
    """Keeps every core from sleeping, with loops that give way to all others.

    A client that sleeps between its calls pays for waking up and for cold caches: on an idle machine its calls took
    half as much CPU again as on a busy one. For figures of CPU time, which are to be about the program.
    """
    loop = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    loops = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


class Watch:
    """Samples the endpoint's counts while a block runs.

    Attributes:
        samples: the counts in their order, each with `at` in seconds of the monotonic clock.
    """

    def __init__(self, endpoint: EndpointProcess, every_s: float = 0.1) -> None:
        self._endpoint, self._every_s = endpoint, every_s
        self._ended = threading.Event()
        self.samples: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._every_s):
            self.samples.append(self._endpoint.stats() | {"at": time.monotonic()})

    def between(self, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """The samples from `start_s` after the first call to `end_s` after it."""
        begun = self.called_at
        return [sample for sample in self.samples if begun + start_s <= sample["at"] <= begun + end_s]

    @property
    def called_at(self) -> float:
        """When the first call came, as closely as it was sampled."""
        return self._find_time(lambda sample: sample["calls"] > 0)

    @property
    def answered_at(self) -> float:
        """When the last answer went."""
        most = self.samples[-1]["answered"]
        return self._find_time(lambda sample: sample["answered"] == most)

    def _find_time(self, fits: Callable[[dict[str, Any]], bool]) -> float:
        at: float = next(sample["at"] for sample in self.samples if fits(sample))
        return at


class Worker:
    """One process that calls (ask_worker.py). Ready when made; calls when told."""

    def __init__(self, **plan: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "ask_worker.py"), json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout and self._process.stdin
        self._in, self._out = self._process.stdin, self._process.stdout
        self._out.readline()

    def begin(self) -> None:
        self._in.write("go\n")
        self._in.flush()

    def finish(self) -> dict[str, Any]:
        """What it measured."""
        line = self._out.readline()
        if self._process.wait() or not line:
            raise RuntimeError(f"the worker ended with {self._process.returncode} and said {line!r}")
        measured: dict[str, Any] = json.loads(line)
        return measured


def run_workers(plans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Starts a process for each plan, lets them call at once, and waits for all."""
    workers = [Worker(**plan) for plan in plans]
    for worker in workers:
        worker.begin()
    return [worker.finish() for worker in workers]


def describe_endpoint(endpoint: EndpointProcess, **changes: object) -> dict[str, str]:
    """The settings of a process that calls it; keywords are settings of the group llm."""
    given = {"base_url": endpoint.url, "model": "m", "features": '["seed"]', "timeout_s": 60} | changes
    return {f"PERSONA_HUB_LLM__{name.upper()}": str(value) for name, value in given.items()}
