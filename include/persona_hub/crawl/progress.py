"""How the reading of a slice goes: each reader says it beside its staged file, the driver adds it up in the task's log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from persona_hub.core.background import repeat
from persona_hub.crawl.staging import FAILURE, REPORT, STATUS, Staging

log = logging.getLogger(__name__)
REPORT_S = 5.0
MB = 1e6


@dataclass
class Standing:
    """What has been read of a slice. Pages, bytes and `read` (in files, parts of them included) are of this try."""

    files: int
    earlier: int = 0
    done: int = 0
    failed: int = 0
    pages: int = 0
    stored_bytes: int = 0
    read: float = 0.0
    waiting: int = 0


class Watch:
    """Looks at a staging again and again; what is done is opened once."""

    def __init__(self, staging: Staging, files: int) -> None:
        self._staging, self._files = staging, files
        self._before = set(staging.list_ordinals(REPORT))
        self._done: dict[int, tuple[int, int]] = {}
        self._failed: set[int] = set()

    def look(self) -> Standing:
        """How it stands now; a file that failed since the last look is named in the log."""
        staging = self._staging
        for ordinal in staging.list_ordinals(REPORT):
            if ordinal not in self._before and ordinal not in self._done:
                report = staging.read_report(ordinal)
                self._done[ordinal] = (report.pages, report.stored_bytes)
                if report.cut:
                    log.warning("file %d: %s; the records that could be read are used", ordinal, report.cut)
        for ordinal in staging.list_ordinals(FAILURE):
            if ordinal not in self._failed:
                self._failed.add(ordinal)
                log.warning("file %d: %s", ordinal, staging.read_failure(ordinal).reason)
        stand = Standing(self._files, len(self._before), len(self._before) + len(self._done), len(self._failed))
        stand.pages = sum(pages for pages, _ in self._done.values())
        stand.stored_bytes = sum(stored for _, stored in self._done.values())
        stand.read = len(self._done) + len(self._failed)
        usual = stand.stored_bytes / len(self._done) if self._done else 0
        for ordinal in set(staging.list_ordinals(STATUS)) - self._done.keys() - self._failed:
            try:
                status = staging.read_status(ordinal)
            except FileNotFoundError:  # read to its end between the two looks
                continue
            stand.pages += status["pages"]
            stand.stored_bytes += status["bytes"]
            if size := status["size"] or usual:
                stand.read += min(1.0, status["bytes"] / size)
            stand.waiting += status["waits"]
        return stand


@contextmanager
def report_progress(staging: Staging, files: int) -> Iterator[None]:
    """Logs a line every few seconds while the block runs, and one at its end.

    Args:
        staging: where the readers write; opened for this try.
        files: of the whole slice.
    """
    begun, watch = time.monotonic(), Watch(staging, files)

    def report() -> None:
        log.info("ingest_pages: %s", format_progress(watch.look(), time.monotonic() - begun))

    try:
        with repeat(report, REPORT_S, "progress"):
            yield
    finally:
        report()


def format_progress(stand: Standing, seconds: float) -> str:
    """As in `12 of 40 files, 3 failed, 812 pages a second, 41 MB (2.1 MB/s), 3 min left, 2 waiting for a turn at the host`."""
    parts = [f"{stand.done} of {stand.files} files"]
    if stand.failed:
        parts.append(f"{stand.failed} failed")
    seconds = max(seconds, 1e-3)
    parts.append(f"{stand.pages / seconds:.0f} pages a second")
    parts.append(f"{stand.stored_bytes / MB:.0f} MB ({stand.stored_bytes / MB / seconds:.1f} MB/s)")
    if stand.done + stand.failed < stand.files:
        missing = stand.files - stand.earlier - stand.read
        parts.append(f"{_format_time(missing * seconds / stand.read)} left" if stand.read else "time left not known yet")
    if stand.waiting:
        parts.append(f"{stand.waiting} waiting for a turn at the host")
    return ", ".join(parts)


def _format_time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
