"""Ours in Spark's workers and the loops beside it, by turns, as figures per record and busy core."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench_spark import run_driver
from bench_tools import Figure
from crawl_peers import install_peers

REPEATS = 5


@dataclass(frozen=True)
class Cost:
    """Of one record, in milliseconds: medians over the turns.

    Attributes:
        cpu: of the processes that read.
        core: wall time × the two cores that were given for it; above `cpu` where a core had nothing to do.
    """

    cpu: float
    core: float


def take_turns(
    write_file: Callable[[Path, int], int], suffix: str, files: int, size: float, loops: Sequence[str]
) -> tuple[dict[str, Cost], float]:
    """Writes the files, lets a driver read them by turns, and sums up.

    Args:
        write_file: writes the file with that number, and says how many records it has.
        size: share of the real number of turns.

    Returns:
        What a record cost: "language" and "rules" of ours, and each loop by its name; and the JVM's CPU milliseconds
        of the first.
    """
    python = install_peers()
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{number:05d}{suffix}" for number in range(files)]
        records = sum(write_file(Path(folder, name), number) for number, name in enumerate(names))
        write_file(Path(folder, f"warm{suffix}"), files)
        result = Path(folder, "result.json")
        plan = {"base": folder, "files": names, "warm": f"warm{suffix}", "loops": list(loops), "python": python}
        plan["repeats"] = max(1, round(REPEATS * size))
        home = {"PERSONA_HUB_HOME": folder}
        run_driver("crawl_driver.py", result, json.dumps(plan), log=Path(folder, "log"), settings=home)
        turns = json.loads(result.read_text())
    costs = {name: sum_up([_add(turn) for turn in turns[name]], records) for name in turns}
    return costs, median(1000 * turn["jvm_cpu_s"] / records for turn in turns["language"])


def _add(turn: Any) -> dict[str, float]:
    """A turn of ours, or of the processes of a loop that read at once."""
    if isinstance(turn, dict):
        return {"records": turn["records"], "cpu_s": turn["workers_cpu_s"], "wall_s": turn["wall_s"]}
    summed = {name: sum(process[name] for process in turn) for name in ("records", "cpu_s")}
    return summed | {"wall_s": max(process["wall_s"] for process in turn)}


def sum_up(turns: list[dict[str, float]], records: int) -> Cost:
    assert all(turn["records"] == records for turn in turns), (turns, records)
    cpu, wall = (median(1000 * turn[name] / records for turn in turns) for name in ("cpu_s", "wall_s"))
    return Cost(cpu, 2 * wall)


def tell_costs(costs: dict[str, Cost], names: dict[str, str]) -> list[Figure]:
    """Both costs of each, under the name that is given for it."""
    figures = []
    for key, name in names.items():
        figures.append(Figure(f"{name}: CPU of a record", costs[key].cpu, "ms"))
        figures.append(Figure(f"{name}: wall of a record × 2 cores", costs[key].core, "ms"))
    return figures
