"""A whole ingest_pages of 1, 4 and 16 files of a kind, and of one file of a gigabyte: seconds, CPU, memory.

The job runs as Airflow starts it, from its arguments to bronze.pages. No two texts of the 16 files are the same; the
gigabyte is the real sample's records over and over, so all but one of each are dropped as copies, in Spark, at its end.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from bench_spark import run_driver
from bench_tools import CHECKOUT, Figure
from crawl_corpus import find_wet, write_repeats, write_varied

from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.settings import load_settings
from persona_hub.tables.counts import fold_counts

JOB = CHECKOUT / "spark_jobs" / "ingest_pages.py"
REPEATED, BIG_BYTES = 20, 1_000_000_000
COUNTS = (1, 4, 16)
CORES = 2


@dataclass(frozen=True)
class Run:
    """One ingestion: seconds of its stage, CPU seconds of all processes, their memory at its most, and a worker's."""

    records: int
    seconds: float
    cpu_s: float
    peak_mb: float
    worker_mb: float


def measure(size: float) -> list[Figure]:
    """Args: size: share of the records of each file, and of the gigabyte."""
    with tempfile.TemporaryDirectory() as folder:
        times = max(1, round(REPEATED * size))
        names = [f"{number:05d}.warc.wet.gz" for number in range(max(COUNTS))]
        for name in names:
            write_varied(find_wet(), Path(folder, name), times, name)
        runs = {count: ingest(folder, names[:count]) for count in COUNTS}
        big, stored = Path(folder, "big.warc.wet.gz"), find_wet().stat().st_size
        write_repeats(find_wet(), big, max(1, round(BIG_BYTES * size / stored)))
        gigabyte, written = ingest(folder, [big.name]), big.stat().st_size
    one, four, sixteen = (runs[count] for count in COUNTS)
    early, late = (four.cpu_s - one.cpu_s) / 3, (sixteen.cpu_s - four.cpu_s) / 12
    figures = [
        Figure("CPU of each file after the 4th ÷ of each after the 1st", late / early, goal=1.25, at_most=True),
        Figure("peak memory of 16 files ÷ of 4 (as many at once)", sixteen.peak_mb / four.peak_mb, goal=1.2, at_most=True),
        Figure("peak of a worker, 16 files ÷ 4", sixteen.worker_mb / four.worker_mb, goal=1.1, at_most=True),
        Figure("peak of a worker, the gigabyte ÷ 1 file", gigabyte.worker_mb / one.worker_mb, goal=1.1, at_most=True),
    ]
    for count, run in runs.items():
        figures += tell_run(f"{count} files of {times * 318:,} records" if count > 1 else "1 file", run)
    return figures + tell_run(f"one file of {written / 1e9:.2f} GB, {gigabyte.records:,} records", gigabyte)


def tell_run(name: str, run: Run) -> list[Figure]:
    return [
        Figure(f"{name}: seconds", run.seconds, "s"),
        Figure(f"{name}: CPU of all processes, Spark's start included", run.cpu_s, "s"),
        Figure(f"{name}: peak memory of all processes", run.peak_mb, "MB"),
        Figure(f"{name}: peak memory of a Python worker", run.worker_mb, "MB"),
    ]


def ingest(base: str, names: list[str]) -> Run:
    """Runs the job over a slice of these files, in a lake of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = {"PERSONA_HUB_HOME": folder}
        settings = load_settings(home)
        listing = SnapshotListing("CC-MAIN-2020-50", datetime(2020, 12, 6, tzinfo=UTC), tuple(names), base)
        add_snapshot(settings.lake, settings.calendar, listing, len(names), datetime(2021, 1, 1, tzinfo=UTC))
        arguments = ("--slice", "CC-MAIN-2020-50/00001", "--run", "bench")
        with TreeWatch() as watch:
            run_driver(str(JOB), *arguments, log=Path(folder, "log"), settings=home)
        [count] = fold_counts(settings.lake)
    return Run(count["rows_in"], count["seconds"], watch.cpu_s, watch.peak_mb, watch.worker_mb)


class TreeWatch:
    """Samples all that this process starts while a block runs.

    Memory is the proportional set size: what processes share counts once. Attributes in MB and seconds.
    """

    def __init__(self, every_s: float = 0.2) -> None:
        self._every_s, self._ended = every_s, threading.Event()
        self._cpu: dict[int, float] = {}
        self.peak_mb = self.worker_mb = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu.values())

    def __enter__(self) -> TreeWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self._sample()

    def _sample(self) -> None:
        total = 0.0
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu[process.pid] = times.user + times.system
                held = process.memory_full_info().pss / 1e6
                total += held
                if "pyspark.daemon" in process.cmdline():
                    self.worker_mb = max(self.worker_mb, held)
        self.peak_mb = max(self.peak_mb, total)
