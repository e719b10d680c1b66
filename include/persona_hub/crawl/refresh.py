"""Brings the crawl calendar up to date with its source: the daily work of the DAG `refresh_crawls`.

First the list of snapshots, then of each snapshot and kind the list of files. A list is fetched again only when its
host says that it is another one. What a host says for that (ETag or date) lies in `lists.json` beside the calendar;
where that is lost, each list is fetched once more.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from persona_hub.core.whole_file import write_whole
from persona_hub.crawl.calendar import MAX_SLICES, Snapshot, count_slices, load_calendar
from persona_hub.crawl.file_lists import count_files
from persona_hub.crawl.files import fetch_if_changed, make_access, refuse_credentials
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.source import INDEX, find_base, name_snapshot, parse_index, parse_paths
from persona_hub.errors import NotThere, SourceError
from persona_hub.settings import Settings

log = logging.getLogger(__name__)
MARKS_FILE = "lists.json"
COMMON_CRAWL = ("data.commoncrawl.org", "commoncrawl")
"""Its host and its bucket, which hold the files and no list of snapshots."""
COMMON_CRAWL_INDEX = "https://index.commoncrawl.org"
GIVE_UP_AFTER = 5
"""Lists in a row that cannot be fetched: each has cost all its tries, and a host that is down has hundreds of them."""
FAULTS_SHOWN = 10


@dataclass
class RefreshReport:
    """What a refresh did; `fetched` and `unchanged` count lists of files, `missing` names those that are not there."""

    added: list[Snapshot] = field(default_factory=list)
    fetched: int = 0
    unchanged: int = 0
    missing: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def refresh_calendar(settings: Settings) -> RefreshReport:
    """Enters the source's snapshots that the calendar lacks, the oldest first.

    So the newest is the last to be seen, and one that is cut short goes on where it was.

    Raises:
        SourceError: the list of snapshots cannot be had; or some lists of files cannot, or are not what they were. The
            others are entered, what the calendar held stays, and the message names the faults.
        SettingsError: the host wants a contact, and none is set.
    """
    refresh = _Refresh(settings)
    report, entries = refresh.report, refresh.read_index()[: settings.crawl.newest]
    kinds = ", ".join(settings.crawl.kinds)
    log.info("%s: %d snapshots to look at, for %s", refresh.base, len(entries), kinds)
    waiting = entries[:]
    while waiting:
        is_down = refresh.failed_in_a_row >= GIVE_UP_AFTER
        # Before it gives up it asks for the newest one: old lists that are refused for good must not keep that away.
        refresh.enter_snapshot(*waiting.pop(0 if is_down else -1))
        if waiting and is_down and refresh.failed_in_a_row:
            failed, unasked = refresh.failed_in_a_row, len(waiting)
            refresh.note_fault(f"{failed} lists in a row could not be had; {unasked} snapshots were not asked for")
            break
    if not (report.fetched or report.unchanged or report.faults):
        refresh.note_fault(f"none of the {len(entries)} snapshots has a list for {kinds}")
    log.info(
        "%d snapshots added; lists: %d fetched, %d unchanged, %d not there, %d faults",
        *(len(report.added), report.fetched, report.unchanged, len(report.missing), len(report.faults)),
    )
    if report.faults:
        left = len(report.faults) - FAULTS_SHOWN
        more = f"; and {left} more, in the log" if left > 0 else ""
        raise SourceError(
            f"Of {refresh.base}: {'; '.join(report.faults[:FAULTS_SHOWN])}{more}",
            cure="see to the source and run again; what the calendar knew stays, and all other lists are entered",
        )
    return report


class _Refresh:
    """One refresh: its settings, what it remembers of the last one, and its report."""

    def __init__(self, settings: Settings) -> None:
        self.base = find_base(settings.crawl.source)
        self.report, self.failed_in_a_row = RefreshReport(), 0
        self._settings, self._access = settings, make_access(settings)
        self._stored = count_files(settings.lake)
        self._marks_file = Path(settings.calendar) / MARKS_FILE
        self._marks = _read_marks(self._marks_file)

    def read_index(self) -> list[tuple[str, datetime]]:
        """Ids and end dates of the source's snapshots, the newest first."""
        base, path = _find_index(self.base, self._settings.crawl.index)
        address, place = f"{base}/{path}", f"{path} in {base}"
        held = self._marks.get(address, {})
        found = fetch_if_changed(base, path, self._access, held.get("mark") if "text" in held else None)
        if found is None:
            return parse_index(held["text"].encode("utf-8"), place)
        entries = parse_index(found[0], place)
        self._remember(address, {"mark": found[1], "text": found[0].decode("utf-8")})
        return entries

    def enter_snapshot(self, name: str, end_date: datetime) -> None:
        """Looks at the lists of one crawl, and enters those that are new or have changed."""
        found = [one for kind in self._settings.crawl.kinds if (one := self._fetch_list(name, end_date, kind))]
        for address, mark, listing in found:
            try:
                self._add(listing)
            except SourceError as error:
                self.note_fault(str(error))
            else:
                self._remember(address, {"mark": mark})

    def note_fault(self, fault: str) -> None:
        log.error("%s", fault)
        self.report.faults.append(fault.rstrip("."))

    def _fetch_list(self, name: str, end_date: datetime, kind: str) -> tuple[str, str, SnapshotListing] | None:
        """Its address, its mark and the list; None where it has not changed, is not there, or is none."""
        path, snapshot = f"crawl-data/{name}/{kind}.paths.gz", name_snapshot(name, kind)
        address = f"{self.base}/{path}"
        mark = self._marks.get(address, {}).get("mark") if self._is_entered(snapshot) else None
        try:
            found = fetch_if_changed(self.base, path, self._access, mark)
            self.failed_in_a_row = 0
        except NotThere:
            log.info("%s has no %s", self.base, path)
            self.report.missing.append(path)
            self.failed_in_a_row = 0
            return None
        except SourceError as error:
            self.note_fault(str(error))
            self.failed_in_a_row += 1
            return None
        if found is None:
            self.report.unchanged += 1
            return None
        self.report.fetched += 1
        try:
            paths = parse_paths(found[0], f"{path} in {self.base}", kind)
        except SourceError as error:
            self.note_fault(str(error))
            return None
        return address, found[1], SnapshotListing(snapshot, end_date, tuple(paths), self.base)

    def _is_entered(self, snapshot_id: str) -> bool:
        """Whether an unchanged list leaves nothing to do: its rows may be lost, or the source have moved."""
        known = load_calendar(self._settings.calendar).by_id.get(snapshot_id)
        return known is not None and known.base == self.base and self._stored.get(snapshot_id) == known.files

    def _add(self, listing: SnapshotListing) -> None:
        is_new = listing.id not in load_calendar(self._settings.calendar).by_id
        per_slice = self._settings.crawl.files_per_slice
        # Common Crawl's usual 100,000 files are one more than there are slice keys.
        least = count_slices(len(listing.paths), MAX_SLICES)
        if is_new and per_slice < least:
            log.warning(
                "%s: %d files in a slice instead of %d, since a snapshot has at most %d slices",
                *(listing.id, least, per_slice, MAX_SLICES),
            )
        snapshot = add_snapshot(self._settings.lake, self._settings.calendar, listing, max(per_slice, least))
        if is_new:
            self.report.added.append(snapshot)
            begin = f"{snapshot.slice(1).partition_date:%Y-%m-%dT%H:%M:%SZ}"
            log.info(
                "added %s: %d files in %d slices, partition dates from %s on",
                *(snapshot.id, snapshot.files, snapshot.slices, begin),
            )

    def _remember(self, address: str, held: dict[str, str]) -> None:
        self._marks[address] = held
        self._marks_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._marks_file, json.dumps(self._marks, indent=1), durable=True)


def _find_index(source: str, index: str) -> tuple[str, str]:
    """Base and path of the list of snapshots."""
    if index:
        refuse_credentials(index)
        base, _, path = index.rpartition("/")
        return base or ("/" if index.startswith("/") else "."), path
    return (COMMON_CRAWL_INDEX if urlsplit(source).hostname in COMMON_CRAWL else source), INDEX


def _read_marks(file: Path) -> dict[str, dict[str, str]]:
    try:
        return {address: dict(held) for address, held in json.loads(file.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        log.warning("%s cannot be read (%s): all lists are fetched again", file, error)
        return {}
