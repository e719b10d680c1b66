"""How the crawl calendar grows: a snapshot is added whole or not at all, and never changes afterwards."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile

from persona_hub.core.keys import parse_slice_key
from persona_hub.crawl.calendar import (
    CALENDAR_FILE,
    MAX_SLICES,
    Calendar,
    Snapshot,
    count_slices,
    load_calendar,
    paths_file,
    read_paths,
)
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.errors import SourceError


def add_snapshot(folder: str | Path, listing: SnapshotListing, files_per_slice: int, first_seen: datetime) -> Snapshot:
    """Adds a snapshot, or finds it there already.

    The same list again changes nothing but `base`: a mirror may move, its files may not.

    Args:
        folder: the calendar's folder; made if missing.
        listing: what the source says.
        files_per_slice: for a new snapshot; one that is known keeps its own.
        first_seen: now. Raised to the latest one in the calendar, or nights of the past would change.

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
            _check_unchanged(listing, known, read_paths(folder, known))
            snapshot = replace(known, base=listing.base)
        else:
            snapshot = _place_snapshot(calendar, listing, files_per_slice, first_seen)
            content = gzip.compress("".join(f"{path}\n" for path in listing.paths).encode("utf-8"), mtime=0)
            _write_atomically(paths_file(folder, snapshot.id), content)
        if snapshot != known:
            others = [one for one in calendar.snapshots if one.id != snapshot.id]
            _write_atomically(folder / CALENDAR_FILE, _render([*others, snapshot]))
    return snapshot


def _check_listing(listing: SnapshotListing, files_per_slice: int) -> None:
    parse_slice_key(f"{listing.id}/00001")
    if not listing.paths:
        raise SourceError(f"The list of {listing.id} is empty", wanted="at least one file", cure="check the source")
    for path in listing.paths:
        if not path.isprintable() or not path.strip():
            raise SourceError(f"The list of {listing.id} has {path!r:.80}", wanted="paths", cure="check the source")
    if count_slices(len(listing.paths), files_per_slice) > MAX_SLICES:
        raise SourceError(
            f"{listing.id} has {len(listing.paths)} files, {files_per_slice} in a slice",
            wanted=f"at most {MAX_SLICES} slices",
            cure="set PERSONA_HUB_CRAWL__FILES_PER_SLICE higher",
        )


def _check_unchanged(listing: SnapshotListing, known: Snapshot, paths: tuple[str, ...]) -> None:
    if listing.paths == paths:
        return
    place = next((n for n, (a, b) in enumerate(zip(listing.paths, paths, strict=False)) if a != b), None)
    what = (
        "" if place is None else f", and file {place} is now {listing.paths[place]!r:.200} instead of {paths[place]!r}"
    )
    raise SourceError(
        f"The list of {known.id} has changed: {len(listing.paths)} files now, {len(paths)} known{what}",
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
    )
    if not listing.id.startswith("CC-MAIN"):  # somebody's own files: their day says little, so a plain date will do
        snapshot = replace(snapshot, end_date=_begin_day(snapshot.end_date))
    while snapshot.last_date > first_seen or any(snapshot.overlaps(other) for other in calendar.snapshots):
        snapshot = replace(snapshot, end_date=_begin_day(snapshot.end_date - timedelta(microseconds=1)))
    return snapshot


def _begin_day(date: datetime) -> datetime:
    """Midnight UTC at or before."""
    return date.replace(hour=0, minute=0, second=0, microsecond=0)


def _render(snapshots: list[Snapshot]) -> bytes:
    rows = [
        asdict(one) | {"end_date": one.end_date.isoformat(), "first_seen": one.first_seen.isoformat()}
        for one in sorted(snapshots, key=lambda one: one.end_date)
    ]
    return (json.dumps({"snapshots": rows}, indent=1) + "\n").encode("utf-8")


def _write_atomically(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)  # other components may run as another user; a temporary file is private
    os.replace(file.name, path)
