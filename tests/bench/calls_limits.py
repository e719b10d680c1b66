"""Limits that several processes share: how much of them is used, and how much the endpoint still refuses."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import AbstractContextManager
from typing import Any

from bench_tools import Figure, Watch, Worker, describe_endpoint, run_endpoint, run_workers
from endpoint_process import EndpointProcess

SLOTS, RATE = 128, 400
RAMP_S = 10.0
SKEW = (4, 1, 1, 1)


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real times."""
    seconds = max(RAMP_S + 5, 60 * size)
    return [
        *measure_slots(f"limit of {SLOTS} in flight, four processes", seconds, max_in_flight=SLOTS),
        *measure_two_runs(seconds),
        *measure_slots(f"no limit set, the endpoint takes {SLOTS}, four processes", seconds),
        *measure_rate(seconds),
        *measure_skewed_slots(seconds),
        *measure_skewed_rate(seconds),
    ]


def run_slots(slots: int) -> AbstractContextManager[EndpointProcess]:
    return run_endpoint(latency_s=1.0, jitter=0.1, max_in_flight=slots)


def run_rate(rate: int) -> AbstractContextManager[EndpointProcess]:
    return run_endpoint(latency_s=0.2, jitter=0.1, requests_per_s=rate)


def measure_slots(name: str, seconds: float, **limits: int) -> list[Figure]:
    with run_slots(SLOTS) as endpoint, tempfile.TemporaryDirectory() as lake:
        settings = describe_endpoint(endpoint, window=64, **limits)
        with Watch(endpoint) as watch:
            run_workers(make_plans(settings, lake if limits else "", seconds))
    return count_slots(name, watch, seconds, 0.9 if limits else 0.85)


def measure_two_runs(seconds: float) -> list[Figure]:
    """The second comes when the first has it all; each could take all of it alone."""
    with run_slots(SLOTS) as endpoint, tempfile.TemporaryDirectory() as lake:
        settings = describe_endpoint(endpoint, window=SLOTS, max_in_flight=SLOTS)
        plans = make_plans(settings, lake, seconds)
        workers = [Worker(**plan | {"run_id": f"run {place // 2}"}) for place, plan in enumerate(plans)]
        with Watch(endpoint) as watch:
            for worker in workers[:2]:
                worker.begin()
            time.sleep(RAMP_S / 2)
            for worker in workers[2:]:
                worker.begin()
            for worker in workers:
                worker.finish()
    return count_slots(f"limit of {SLOTS} in flight, two runs side by side", watch, seconds, 0.9)


def make_plans(settings: dict[str, str], lake: str, seconds: float) -> list[dict[str, Any]]:
    """Four processes with more to ask than they can."""
    return [
        {"settings": settings, "first": place * 10**6, "count": 10**6, "seconds": seconds, "lake": lake}
        for place in range(4)
    ]


def count_slots(name: str, watch: Watch, seconds: float, goal: float) -> list[Figure]:
    steady = watch.between(RAMP_S, seconds - 0.5)
    used = statistics.fmean(sample["in_flight"] for sample in steady) / SLOTS
    return [
        Figure(f"{name}: used after the ramp", used, goal=goal),
        Figure(f"{name}: refused after the ramp", find_refused(steady), goal=0.01, at_most=True),
        Figure(f"{name}: most in flight", watch.samples[-1]["most_in_flight"], goal=SLOTS, at_most=True),
    ]


def find_refused(samples: list[dict[str, Any]]) -> float:
    """Share of the calls."""
    refused, calls = (int(samples[-1][name] - samples[0][name]) for name in ("refused", "calls"))
    return refused / calls


def measure_rate(seconds: float) -> list[Figure]:
    with run_rate(RATE) as endpoint, tempfile.TemporaryDirectory() as lake:
        settings = describe_endpoint(endpoint, window=64, requests_per_minute=60 * RATE)
        with Watch(endpoint) as watch:
            run_workers(make_plans(settings, lake, seconds))
    steady = watch.between(RAMP_S, seconds - 0.5)
    answered = steady[-1]["answered"] - steady[0]["answered"]
    name = f"limit of {RATE} requests a second, four processes"
    return [
        Figure(f"{name}: used after the ramp", answered / (steady[-1]["at"] - steady[0]["at"]) / RATE, goal=0.95),
        Figure(f"{name}: refused after the ramp", find_refused(steady), goal=0.02, at_most=True),
    ]


def measure_skewed_slots(seconds: float) -> list[Figure]:
    """64 slots: with a quarter for each partition, the large one would take 2.3 times as long."""
    with run_slots(64) as endpoint:
        settings = describe_endpoint(endpoint, window=64, max_in_flight=64)
        return measure_skewed("limit of 64 in flight", endpoint, settings, 64, seconds)


def measure_skewed_rate(seconds: float) -> list[Figure]:
    with run_rate(RATE) as endpoint:
        settings = describe_endpoint(endpoint, window=128, requests_per_minute=60 * RATE)
        return measure_skewed(f"limit of {RATE} requests a second", endpoint, settings, RATE, seconds)


def measure_skewed(
    name: str, endpoint: EndpointProcess, settings: dict[str, str], rate: int, seconds: float
) -> list[Figure]:
    """From the first call to the last answer, ramp and end included."""
    unit = int(rate * seconds / sum(SKEW))
    with tempfile.TemporaryDirectory() as lake, Watch(endpoint) as watch:
        run_workers(
            [
                {"settings": settings, "first": place * 10**6, "count": part * unit, "lake": lake}
                for place, part in enumerate(SKEW)
            ]
        )
    last = watch.samples[-1]
    share = last["answered"] / rate / (watch.answered_at - watch.called_at)
    return [
        Figure(f"{name}, partitions skewed 4:1:1:1: used", share, goal=0.85),
        Figure(f"{name}, partitions skewed 4:1:1:1: refused", last["refused"] / last["calls"], goal=0.02, at_most=True),
    ]
