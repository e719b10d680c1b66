"""The timetable's look-up with 120 snapshots, cold and warm; planning a slice out of 100,000 files.

The snapshots are entered as refresh_crawls enters them: 120 lists of 100,000 paths make a table of 12 million rows.
Each of the real list's paths gets its snapshot's name, as all of Common Crawl's lists are built alike.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bench_tools import Figure
from crawl_corpus import find_data

from persona_hub.crawl.calendar import plan_slice
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.settings import CrawlSettings

SNAPSHOTS, LISTED = 120, "CC-MAIN-2026-30"
FILES_PER_SLICE = CrawlSettings().files_per_slice
TIMES = 50
FIRST_SEEN = datetime(2024, 1, 1, tzinfo=UTC)


def measure(size: float) -> list[Figure]:
    """Args: size: share of the snapshots, of which at least two are entered."""
    stored = (find_data() / "common-crawl" / f"{LISTED}.wet.paths.gz").read_bytes()
    paths = gzip.decompress(stored).decode().split()
    snapshots = max(2, round(SNAPSHOTS * size))
    with tempfile.TemporaryDirectory() as folder:
        lake, calendar = str(Path(folder, "lake")), Path(folder, "calendar")
        names = [f"CC-MAIN-{2014 + number // 12}-{4 * (number % 12) + 2:02d}" for number in range(snapshots)]
        seconds = [enter_snapshot(lake, calendar, name, paths) for name in names[:1]]
        alone = measure_planning(lake, calendar, names, f"a table of {len(paths):,} rows")
        seconds += [enter_snapshot(lake, calendar, name, paths) for name in names[1:]]
        return [
            *measure_lookup(calendar, snapshots, Path(folder)),
            *alone,
            *measure_planning(lake, calendar, names, f"a table of {snapshots * len(paths):,} rows"),
            Figure(f"entering a list of {len(paths):,} paths, the first", seconds[0], "s"),
            Figure("the last", seconds[-1], "s"),
        ]


def enter_snapshot(lake: str, calendar: Path, name: str, paths: list[str]) -> float:
    year, week = name.removeprefix("CC-MAIN-").split("-")
    end = datetime(int(year), 1, 1, tzinfo=UTC) + timedelta(weeks=int(week) - 1)
    listing = SnapshotListing(name, end, tuple(path.replace(LISTED, name) for path in paths), "https://localhost")
    begun = time.monotonic()
    add_snapshot(lake, calendar, listing, FILES_PER_SLICE, FIRST_SEEN)
    return time.monotonic() - begun


def measure_lookup(calendar: Path, snapshots: int, folder: Path) -> list[Figure]:
    """As the scheduler asks for the next run. Cold: a process that has not parsed this calendar; each has a copy."""
    os.environ["AIRFLOW_HOME"] = str(folder / "airflow")
    from airflow.timetables.base import TimeRestriction

    from persona_hub_airflow.timetable import CrawlSliceTimetable

    def ask(timetable: CrawlSliceTimetable) -> None:
        found = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=TimeRestriction(None, None, False))
        assert found and found.partition_key

    copies = [Path(shutil.copytree(calendar, folder / f"copy{number}")) for number in range(TIMES)]
    ask(CrawlSliceTimetable(str(calendar)))  # what Airflow imports on the first question is not the calendar's
    cold = [clock(ask, CrawlSliceTimetable(str(copy))) for copy in copies]
    warm = [clock(ask, CrawlSliceTimetable(str(copy))) for copy in copies]
    dates = [clock(CrawlSliceTimetable(str(copies[0])).resolve_partition_date, key) for key in pick_keys(copies[0])]
    name = f"timetable, {snapshots} snapshots"
    return [
        Figure(f"{name}: next run, calendar not parsed yet, median", median(cold), "ms", goal=5, at_most=True),
        Figure(f"{name}: next run, parsed before, median", median(warm), "ms", goal=5, at_most=True),
        Figure(f"{name}: next run, parsed before, worst of {TIMES}", max(warm), "ms"),
        Figure(f"{name}: a key's date, median", median(dates), "ms", goal=5, at_most=True),
    ]


def pick_keys(calendar: Path) -> list[str]:
    from persona_hub.crawl.calendar import load_calendar

    chance = random.Random(5)
    snapshots = [chance.choice(load_calendar(calendar).snapshots) for _ in range(TIMES)]
    return [str(snapshot.slice(chance.randint(1, snapshot.slices)).key) for snapshot in snapshots]


def measure_planning(lake: str, calendar: Path, names: list[str], what: str) -> list[Figure]:
    """Random slices; the first one in a process also opens the table, which a driver does once, too."""
    spent = [clock(plan, lake, calendar, key) for key in pick_keys(calendar)]
    name = f"planning a slice out of 100,000 files, {what}"
    return [
        Figure(f"{name}: median", median(spent), "ms", goal=100, at_most=True),
        Figure(f"{name}: the first", spent[0], "ms"),
        Figure(f"{name}: worst of {TIMES}", max(spent), "ms"),
    ]


def plan(lake: str, calendar: Path, key: str) -> None:
    files = plan_slice(lake, calendar, key).files
    assert len(files) == FILES_PER_SLICE and key.split("/")[0] in files[0][1], (key, files)


def clock(function: Callable[..., Any], *arguments: Any) -> float:
    """Milliseconds of one call."""
    begun = time.perf_counter()
    function(*arguments)
    return 1000 * (time.perf_counter() - begun)
