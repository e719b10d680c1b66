"""The crawl calendar: which snapshots are known here, since when, and the date of each of their slices.

A folder that scheduler, DAG processor, API server and workers all reach:

    calendar.json   every snapshot: id, end_date, first_seen, base, files, files_per_slice, slices, sha256

It only grows, and what it once said of a snapshot stays (docs/adr/0001). The files themselves are rows of the table
`bronze.crawl_files` (file_lists.py); here stand their number and the SHA-256 of their list. A slice's partition date is
its snapshot's end date plus its ordinal in seconds, so dates are unique as long as no two snapshots overlap.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from typing import Any

from persona_hub.core.keys import SliceKey, parse_slice_key
from persona_hub.errors import CrawlError, SourceError, UnknownSlice

log = logging.getLogger(__name__)
CALENDAR_FILE = "calendar.json"
MAX_SLICES = 99_999  # an ordinal has five digits


@dataclass(frozen=True)
class Slice:
    """One partition: its key and the date that Airflow's backfill knows it by."""

    key: SliceKey
    partition_date: datetime


@dataclass(frozen=True)
class Snapshot:
    """One crawl as the calendar keeps it; `first_seen` is when it was added here."""

    id: str
    end_date: datetime
    first_seen: datetime
    base: str
    files: int
    files_per_slice: int
    slices: int
    sha256: str = ""
    """Of its list, as `file_lists.hash_list` takes it; empty in a calendar from before there was the table."""

    def slice(self, ordinal: int) -> Slice:
        return Slice(SliceKey(self.id, ordinal), self.end_date + timedelta(seconds=ordinal))

    @property
    def last_date(self) -> datetime:
        """Partition date of the last slice."""
        return self.end_date + timedelta(seconds=self.slices)

    def overlaps(self, other: Snapshot) -> bool:
        return self.end_date < other.last_date and other.end_date < self.last_date


@dataclass(frozen=True)
class Calendar:
    """All snapshots, oldest end date first."""

    snapshots: tuple[Snapshot, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Snapshot]:
        return {snapshot.id: snapshot for snapshot in self.snapshots}

    @property
    def slices(self) -> int:
        """Number of slices of all snapshots."""
        return sum(snapshot.slices for snapshot in self.snapshots)

    def find_slice(self, key: str) -> tuple[Snapshot, Slice]:
        """Looks a key up.

        Raises:
            UnknownSlice: no such slice; the message says which there are.
        """
        snapshot_id, ordinal = parse_slice_key(key)
        snapshot = self.by_id.get(snapshot_id)
        if snapshot is None:
            newest = ", ".join(snapshot.id for snapshot in reversed(self.snapshots[-5:])) or "none yet"
            raise UnknownSlice(
                f"No snapshot {snapshot_id} in the crawl calendar",
                wanted=f"one of the {len(self.snapshots)} that it knows, newest first: {newest}",
                cure="correct the key, or add the snapshot to the calendar",
            )
        if not 1 <= ordinal <= snapshot.slices:
            raise UnknownSlice(
                f"No slice {key}: {snapshot.id} has slices 00001 to {snapshot.slices:05d}", cure="correct the key"
            )
        return snapshot, snapshot.slice(ordinal)

    def partition_date(self, key: str) -> datetime:
        """The date of a slice, in UTC. Raises UnknownSlice like `find_slice`."""
        return self.find_slice(key)[1].partition_date

    def iter_slices(self, earliest: datetime | None = None, latest: datetime | None = None) -> Iterator[Slice]:
        """Slices by rising partition date, both bounds inclusive."""
        for snapshot in self.snapshots:
            first = 1 if earliest is None else max(1, ceil((earliest - snapshot.end_date).total_seconds()))
            last = snapshot.slices
            if latest is not None:
                last = min(last, floor((latest - snapshot.end_date).total_seconds()))
            for ordinal in range(first, last + 1):
                yield snapshot.slice(ordinal)


@dataclass(frozen=True)
class SlicePlan:
    """What ingestion reads: (ordinal of the file in the snapshot from 0, path relative to `base`)."""

    key: str
    base: str
    files: tuple[tuple[int, str], ...]


def load_calendar(folder: str | Path) -> Calendar:
    """Reads the calendar, once per state of its file.

    A missing file is an empty calendar. A file that was good and now is broken or gone keeps the last good
    copy of this process, so that a bad minute of a shared disk does not unschedule everything.

    Raises:
        SourceError: the file is broken and this process has no earlier copy.
    """
    path = Path(folder) / CALENDAR_FILE
    held_mark, held = _held.get(str(path), (None, None))
    try:
        stat = path.stat()
        mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if mark != held_mark or held is None:
            held = _parse(path.read_text(encoding="utf-8"))
            _held[str(path)] = (mark, held)
        return held
    except FileNotFoundError as error:
        if held is None:
            return Calendar()
        fault: Exception = error
    except (OSError, ValueError, KeyError, TypeError, CrawlError) as error:
        if held is None:
            raise SourceError(
                f"The crawl calendar {path} cannot be read: {error}",
                wanted="JSON with a list of snapshots",
                cure="restore the file from a copy; it only grows, so an older one is safe",
            ) from error
        fault = error
    log.warning("crawl calendar %s cannot be read, going on with the last good copy: %s", path, fault)
    return held


def plan_slice(lake: str, folder: str | Path, key: str) -> SlicePlan:
    """The files of a slice; of the list, only its rows are read.

    Args:
        lake: root of the tables.
        folder: the calendar's.
        key: such as CC-MAIN-2026-30/00012.

    Raises:
        UnknownSlice: the calendar has no such slice.
        SourceError: the table lacks files that the calendar counted.
    """
    # Here, since Airflow's scheduler and each parse of a DAG file import this module for the calendar alone.
    from persona_hub.crawl.file_lists import read_list

    snapshot, found = load_calendar(folder).find_slice(key)
    start = (found.key.ordinal - 1) * snapshot.files_per_slice
    stop = min(start + snapshot.files_per_slice, snapshot.files)
    files = read_list(lake, snapshot.id, start, stop)
    if [ordinal for ordinal, _ in files] != list(range(start, stop)):
        raise SourceError(
            f"bronze.crawl_files in {lake} has {len(files)} files of {key}",
            wanted=f"the {stop - start} that the crawl calendar counted",
            cure="run refresh_crawls, or register the snapshot again: a list that is missing is entered again",
        )
    return SlicePlan(str(found.key), snapshot.base, files)


def count_slices(files: int, files_per_slice: int) -> int:
    return -(-files // files_per_slice)


_held: dict[str, tuple[tuple[int, int, int] | None, Calendar]] = {}


def _parse(text: str) -> Calendar:
    snapshots = sorted((_parse_snapshot(row) for row in json.loads(text)["snapshots"]), key=lambda one: one.end_date)
    if len({snapshot.id for snapshot in snapshots}) < len(snapshots):
        raise ValueError("a snapshot is listed twice")
    for earlier, later in pairwise(snapshots):
        if earlier.overlaps(later):
            raise ValueError(f"the partition dates of {earlier.id} and {later.id} overlap")
    return Calendar(tuple(snapshots))


def _parse_snapshot(row: dict[str, Any]) -> Snapshot:
    files, per_slice, slices = (int(row[name]) for name in ("files", "files_per_slice", "slices"))
    snapshot = Snapshot(
        id=str(row["id"]),
        end_date=_parse_date(row["end_date"]),
        first_seen=_parse_date(row["first_seen"]),
        base=str(row["base"]),
        files=files,
        files_per_slice=per_slice,
        slices=slices,
        sha256=str(row.get("sha256", "")),
    )
    if per_slice < 1 or not 1 <= slices <= MAX_SLICES or slices != count_slices(files, per_slice):
        raise ValueError(f"{snapshot.id}: {slices} slices do not fit {files} files, {per_slice} in a slice")
    parse_slice_key(f"{snapshot.id}/00001")
    return snapshot


def _parse_date(text: str) -> datetime:
    date = datetime.fromisoformat(text)
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
