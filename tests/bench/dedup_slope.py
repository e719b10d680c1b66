"""How time and memory grow: 1, 3 and 10 million personas (5 where the disk is short), drawn."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from bench_tools import CHECKOUT, Figure
from dedup_corpus import HOME, STORED, make_corpus
from dedup_runs import Hub, OurRun, make_home

SIZES = (1_000_000, 3_000_000, 10_000_000)
SMALLER, FREE_BYTES = 5_000_000, 25e9
PEAK_MB = 6_000
PICTURE = CHECKOUT / "docs" / "pictures" / "dedup_slope.png"


def measure(size: float) -> list[Figure]:
    """Args: size: share of the rows; the picture is drawn from the real ones only."""
    HOME.mkdir(parents=True, exist_ok=True)
    largest = SIZES[-1] if shutil.disk_usage(HOME).free >= FREE_BYTES else SMALLER
    runs = {rows: deduplicate(rows) for rows in (round(rows * size) for rows in (*SIZES[:-1], largest))}
    (first, one), *_, (last, most) = runs.items()
    if size == 1:
        write_picture(runs)
    growth, rows = most.seconds / one.seconds, last / first
    figures = [
        Figure(f"{last:,} ÷ {first:,} personas, seconds after session start", growth, goal=rows, at_most=True),
        Figure(f"{last:,} personas: peak memory of all processes", most.peak_mb, "MB", goal=PEAK_MB, at_most=True),
    ]
    for count, run in runs.items():
        figures += [
            Figure(f"{count:,}: seconds of the whole process", run.wall_s, "s"),
            Figure(f"{count:,}: seconds after session start", run.seconds, "s"),
            Figure(f"{count:,}: peak memory of all processes", run.peak_mb, "MB"),
            Figure(f"{count:,}: personas removed", run.said["removed"]),
        ]
    return figures


def deduplicate(rows: int) -> OurRun:
    corpus = make_corpus(rows)
    with make_home() as folder:
        return Hub(Path(folder), corpus.table, "words").compare(STORED)


def write_picture(runs: dict[int, OurRun]) -> None:
    """Seconds and gigabytes against millions of rows; the numbers stand beside it, as JSON."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    millions = np.array(list(runs)) / 1e6
    seconds, gigabytes = ([value(run) for run in runs.values()] for value in (lambda r: r.seconds, lambda r: r.peak_mb / 1e3))
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, values, label in zip(axes, (seconds, gigabytes), ("seconds after session start", "peak memory, GB"), strict=True):
        axis.plot(millions, values, "o-", color="#1f4e79")
        for at, value in zip(millions, values, strict=True):
            axis.annotate(f"{value:.3g}", (at, value), textcoords="offset points", xytext=(0, 7), ha="center")
        axis.set(xlabel="million personas", ylabel=label, xlim=(0, millions[-1] * 1.08), ylim=(0, max(values) * 1.18))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].plot([0, millions[-1]], [0, seconds[0] / millions[0] * millions[-1]], "--", color="#999999", linewidth=1)
    axes[0].annotate("as many times the first", (millions[-1], seconds[0] / millions[0] * millions[-1]), ha="right", va="bottom", color="#777777")
    axes[0].set_ylim(0, max(*seconds, seconds[0] / millions[0] * millions[-1]) * 1.18)
    figure.suptitle(f"Exact dedup of personas by word sets, one machine of {os.cpu_count()} cores")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=130)
    numbers = [
        {"rows": rows, "seconds": round(run.seconds, 1), "process_s": round(run.wall_s, 1), "peak_mb": round(run.peak_mb)}
        for rows, run in runs.items()
    ]
    PICTURE.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
