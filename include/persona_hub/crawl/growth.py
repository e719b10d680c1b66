"""How the crawl calendar grows: a snapshot is added whole or not at all, and never changes afterwards."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from persona_hub.core.keys import parse_slice_key
from persona_hub.core.whole_file import write_whole
from persona_hub.crawl.calendar import (
    CALENDAR_FILE,
    MAX_SLICES,
    Calendar,
    Snapshot,
    count_slices,
    load_calendar,
)
from persona_hub.crawl.file_lists import count_files, count_first_slice, hash_list, read_list, write_list
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.errors import SourceError

MAX_FILES = 1_000_000
FIRST_YEAR = 1990
"""Before it there was no web to crawl; days are taken backwards from a snapshot's end, and the calendar keeps them."""


def add_snapshot(
    lake: str, folder: str | Path, listing: SnapshotListing, files_per_slice: int, first_seen: datetime | None = None
) -> Snapshot:
    """Adds a snapshot, or finds it there already.

    The same list again changes nothing but `base`: a mirror may move, its files may not. Where the table has lost its
    rows, they are entered again. The table goes first: what dies before the calendar is written has added nothing.

    Args:
        lake: root of the tables.
        folder: the calendar's folder; made if missing.
        listing: what the source says.
        files_per_slice: for a new snapshot; one that is known keeps its own.
        first_seen: the moment of writing if unset: a night that begins while the table is waited for has taken its
            slice without this snapshot. Raised to the latest one in the calendar, or nights of the past would change.

    Raises:
        SourceError: the list is empty, has a path that is none, or is not the one the calendar knows.
    """
    _check_listing(listing, files_per_slice)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:  # two refreshes at once would each drop the other's snapshot
        fcntl.flock(lock, fcntl.LOCK_EX)
        calendar = load_calendar(folder)
        known = calendar.by_id.get(listing.id)
        if known:
            _check_unchanged(lake, listing, known)
            snapshot = replace(known, base=listing.base, sha256=hash_list(listing.paths))
        else:
            if count_files(lake).get(listing.id) == len(listing.paths):
                # The calendar is an older copy, or lost: what the snapshot's keys have meant stands in the table.
                files_per_slice = count_first_slice(lake, listing.id)
            snapshot = _place_snapshot(calendar, listing, files_per_slice, first_seen or datetime.now(UTC))
        if not known or count_files(lake).get(snapshot.id) != snapshot.files:
            write_list(lake, snapshot.id, listing.paths, snapshot.files_per_slice)
        if not known and first_seen is None:
            snapshot = replace(snapshot, first_seen=max(snapshot.first_seen, datetime.now(UTC)))
        if snapshot != known:
            others = [one for one in calendar.snapshots if one.id != snapshot.id]
            write_whole(folder / CALENDAR_FILE, _render([*others, snapshot]), durable=True)
    return snapshot


def _check_listing(listing: SnapshotListing, files_per_slice: int) -> None:
    parse_slice_key(f"{listing.id}/00001")
    if listing.end_date.year < FIRST_YEAR:
        raise SourceError(
            f"{listing.id} ends at {listing.end_date.isoformat()}",
            wanted=f"the day on which the crawl ended, {FIRST_YEAR} or later",
            cure="check the source",
        )
    if not listing.paths:
        raise SourceError(f"The list of {listing.id} is empty", wanted="at least one file", cure="check the source")
    for path in listing.paths:
        leaves = path.startswith("/") or "://" in path or (".." in path and ".." in path.split("/"))
        if leaves or not path.isprintable() or not path.strip():
            raise SourceError(
                f"The list of {listing.id} has {path!r:.80}", wanted="paths below its base", cure="check the source"
            )
    if len(set(listing.paths)) < len(listing.paths):
        twice = next(path for path, times in Counter(listing.paths).items() if times > 1)
        raise SourceError(
            f"The list of {listing.id} has {twice!r:.200} twice",
            wanted="each file once: its pages would be read twice",
            cure="check the source",
        )
    if len(listing.paths) > MAX_FILES:
        raise SourceError(
            f"The list of {listing.id} has {len(listing.paths)} files",
            wanted=f"at most {MAX_FILES}: a file's place has six digits in a page's id",
            cure="give the files to two snapshots",
        )
    if count_slices(len(listing.paths), files_per_slice) > MAX_SLICES:
        raise SourceError(
            f"{listing.id} has {len(listing.paths)} files, {files_per_slice} in a slice",
            wanted=f"at most {MAX_SLICES} slices",
            cure="set PERSONA_HUB_CRAWL__FILES_PER_SLICE higher",
        )


def _check_unchanged(lake: str, listing: SnapshotListing, known: Snapshot) -> None:
    # One that was entered without a hash takes it from the first list of its length.
    if len(listing.paths) == known.files and known.sha256 in ("", hash_list(listing.paths)):
        return
    stored = read_list(lake, known.id, 0, known.files)
    differs = ((place, path) for place, path in stored if place < len(listing.paths) and listing.paths[place] != path)
    place, path = next(differs, (None, None))
    what = "" if place is None else f", and file {place} is now {listing.paths[place]!r:.200} instead of {path!r}"
    raise SourceError(
        f"The list of {known.id} has changed: {len(listing.paths)} files now, {known.files} known{what}",
        wanted="the list of a snapshot to stay as it was: rows carry a file's place in it",
        cure="restore the source, or give the changed list a name of its own",
    )


def _place_snapshot(
    calendar: Calendar, listing: SnapshotListing, files_per_slice: int, first_seen: datetime
) -> Snapshot:
    """Finds seconds for its slices that no other snapshot has and that are past: backfills refuse the future."""
    snapshot = Snapshot(
        id=listing.id,
        end_date=listing.end_date.astimezone(UTC).replace(microsecond=0),
        first_seen=max([first_seen.astimezone(UTC), *(one.first_seen for one in calendar.snapshots)]),
        base=listing.base,
        files=len(listing.paths),
        files_per_slice=files_per_slice,
        slices=count_slices(len(listing.paths), files_per_slice),
        sha256=hash_list(listing.paths),
    )
    if not listing.id.startswith("CC-MAIN"):  # somebody's own files: their day says little, so a plain date will do
        snapshot = replace(snapshot, end_date=_begin_day(snapshot.end_date))
    while snapshot.last_date > first_seen or any(snapshot.overlaps(other) for other in calendar.snapshots):
        snapshot = replace(snapshot, end_date=_begin_day(snapshot.end_date - timedelta(microseconds=1)))
    return snapshot


def _begin_day(date: datetime) -> datetime:
    """Midnight UTC at or before."""
    return date.replace(hour=0, minute=0, second=0, microsecond=0)


def _render(snapshots: list[Snapshot]) -> str:
    rows = [
        asdict(one) | {"end_date": one.end_date.isoformat(), "first_seen": one.first_seen.isoformat()}
        for one in sorted(snapshots, key=lambda one: one.end_date)
    ]
    return json.dumps({"snapshots": rows}, indent=1) + "\n"
