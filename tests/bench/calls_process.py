"""One process through the `openai` package: share of the ideal (in flight ÷ latency), CPU per call, memory."""

from __future__ import annotations

from typing import Any

from bench_tools import Figure, describe_endpoint, keep_awake, run_endpoint, run_workers

WINDOW, LATENCY_S = 64, 1.0


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real numbers of calls."""
    return [
        *measure_share(WINDOW, LATENCY_S, int(3_840 * size), 0.9),
        *measure_share(256, 2.0, int(10_240 * size), 0.85),
        *measure_cpu(int(3_840 * size)),
        *measure_memory(int(100_000 * size)),
    ]


def measure_share(window: int, latency_s: float, count: int, goal: float) -> list[Figure]:
    run = run_one(window, latency_s, count)
    ideal, name = window / latency_s, f"{window} in flight × {latency_s:g} s"
    return [
        Figure(f"{name}, share of the ideal", run["steady_rate"] / ideal, goal=goal),
        Figure(f"{name}, its ramp from 16 and its end included", run["answered"] / run["seconds"] / ideal),
        Figure(f"{name}, CPU per call on an idle machine", 1000 * run["cpu_s"] / run["answered"], "ms"),
    ]


def measure_cpu(count: int) -> list[Figure]:
    with keep_awake():
        ours, plain = (run_one(WINDOW, LATENCY_S, count, plain=plain) for plain in (False, True))
    costs = [1000 * run["cpu_s"] / run["answered"] for run in (ours, plain)]
    name = f"{WINDOW} in flight × {LATENCY_S:g} s, cores kept awake"
    return [
        Figure(f"{name}, CPU per call", costs[0], "ms", goal=1.3, at_most=True),
        Figure(f"{name}, CPU per call ÷ that of the package as it comes", costs[0] / costs[1]),
        Figure(f"{name}, share of the ideal of the package as it comes", plain["steady_rate"] * LATENCY_S / WINDOW),
    ]


def run_one(window: int, latency_s: float, count: int, **more: bool) -> dict[str, Any]:
    count = max(8 * window, count)
    with run_endpoint(latency_s=latency_s) as endpoint:
        plan = {"settings": describe_endpoint(endpoint, window=window), "first": 0, "count": count} | more
        [run] = run_workers([plan])
        assert endpoint.stats()["calls"] == run["answered"] == count
    return run


def measure_memory(count: int) -> list[Figure]:
    run = run_one(WINDOW, 0.05, count)
    early, late = (memory / 2**20 for memory in run["memory"])
    name = f"{run['answered']:,} calls of 0.05 s"
    return [
        Figure(f"{name}, memory at their end ÷ after a tenth", late / early, goal=1.05, at_most=True),
        Figure(f"{name}, memory at their end", late, "MiB"),
        Figure(f"{name}, calls a second, as fast as one process can", run["answered"] / run["seconds"], "/s"),
        Figure(f"{name}, CPU per call", 1000 * run["cpu_s"] / run["answered"], "ms"),
    ]
