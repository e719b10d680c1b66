"""The whole stage in Spark, spool and fold included; and what spooling costs a process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from bench_spark import run_driver
from bench_tools import Figure, Watch, describe_endpoint, keep_awake, run_endpoint, run_workers

PARTITIONS, WINDOW, LATENCY_S = 2, 64, 1.0


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real numbers of calls."""
    return [*measure_stage(max(1_000, int(20_000 * size))), *measure_spool(max(10 * WINDOW, int(3_840 * size)))]


def measure_stage(calls: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, run_endpoint(latency_s=LATENCY_S) as endpoint:
        result, log = Path(folder, "result.json"), Path(folder, "log")
        settings = describe_endpoint(endpoint, window=WINDOW) | {"PERSONA_HUB_HOME": folder}
        with Watch(endpoint) as watch:
            run_driver("stage_driver.py", result, calls, log=log, settings=settings)
        run = json.loads(result.read_text())
        stats = endpoint.stats()
        print("\n".join(log.read_text().splitlines()[-12:]))
    assert run["answered"] == run["stored"] == stats["answered"] == stats["calls"] == calls, (run, stats)
    ideal, seconds = calls * LATENCY_S / (PARTITIONS * WINDOW), run["ended"] - run["begun"]
    name = f"stage of {calls:,} calls, {PARTITIONS * WINDOW} in flight × {LATENCY_S:g} s"
    return [
        Figure(f"{name}, share of the ideal", ideal / seconds, goal=0.9),
        Figure(f"{name}, ideal", ideal, "s"),
        Figure(f"{name}, from the start of ask_all to its end", seconds, "s"),
        Figure(f"{name}, of that before the first call", watch.called_at - run["begun"], "s"),
        Figure(f"{name}, of that after the last answer", run["ended"] - watch.answered_at, "s"),
    ]


def measure_spool(calls: int) -> list[Figure]:
    """One process with the spool and one without, side by side in time; the cost is timed in the process."""
    runs = []
    with keep_awake(), run_endpoint(latency_s=LATENCY_S) as endpoint:
        for spooled in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                settings = describe_endpoint(endpoint, window=WINDOW)
                plan = {"settings": settings, "first": 0, "count": calls, "spool": folder if spooled else ""}
                runs += run_workers([plan])
    without, spooling = runs
    lost = 1 - spooling["steady_rate"] / without["steady_rate"]
    return [
        Figure("spooling, share of calls a second lost", lost, goal=0.02, at_most=True),
        Figure("spooling, CPU of the writes ÷ CPU of the calls", spooling["spool_s"] / spooling["cpu_s"]),
        Figure("spooling, CPU per call without", 1000 * without["cpu_s"] / calls, "ms"),
        Figure("spooling, CPU per call with", 1000 * spooling["cpu_s"] / calls, "ms"),
        Figure("spooling, CPU of one write", 1e6 * spooling["spool_s"] / calls, "µs"),
    ]
