"""What ingestion has read of a slice so far, file by file: a later try reads only what is missing.

    <lake>/_staging/ingest_pages/CC-MAIN-2026-30/00012/<fingerprint>/
        000044.parquet   every page of the file with ordinal 44: of one that is dropped only key, URL and reason
        000044.json      its counts; written last, so the file is read to its end
        000044.failed    why it could not be read in this try
        000044.status    how far its reader is, every second

Each comes under its name when it is whole. The fingerprint stands for all that decides what is in there, so other
settings begin anew. The folder goes when its slice is whole and published.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from persona_hub.core.whole_file import write_whole
from persona_hub.crawl.calendar import SlicePlan
from persona_hub.errors import LakeError
from persona_hub.settings import CrawlSettings
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.small import arrow_schema

STAGED = pa.schema(
    [*(column.with_nullable(True) for column in arrow_schema(PAGES)), ("rule", pa.string()), ("detail", pa.string())]
)
"""Columns of a staged page; `rule` is null where it is kept, else only page_id, url, rule and detail are set."""
RULES_VERSION = 1
"""To be raised with every change of readers or page rules by which the same file gives other rows."""
GROUP_BYTES = 16 << 20
REPORT, FAILURE, STATUS = ".json", ".failed", ".status"
# These decide which files are read, how they are fetched or which pages are chosen afterwards: no page's verdict. A
# patience that is raised after a bad night does not read anew what that night has brought.
_UNSTAGED = {
    "source", "index", "kinds", "newest", "files_per_slice", "pages_per_slice", "pages_per_domain", "max_failed_share",
    "contact", "max_connections", "requests_per_second", "timeout_s", "max_attempts",
}  # fmt: skip
_REPEATING = ["slice", "file_base", "file_path", "record_type", "declared_language", "language", "rule"]


@dataclass(frozen=True)
class FileReport:
    """What one file held: `events` as they go into the funnel, and what it was cut by, in words."""

    pages: int
    stored_bytes: int
    events: dict[str, int] = field(default_factory=dict)
    cut: str | None = None


@dataclass(frozen=True)
class FileFailure:
    """Why one file could not be read: the error's class and its whole message."""

    error: str
    reason: str


@dataclass(frozen=True)
class Staging:
    """The staged files of one slice under one fingerprint."""

    folder: Path

    def pages_path(self, ordinal: int) -> Path:
        return self.folder / f"{ordinal:06d}.parquet"

    def write_report(self, ordinal: int, report: FileReport) -> None:
        """Says that the file is read to its end; its pages must be there."""
        self._write(ordinal, REPORT, asdict(report), durable=True)

    def write_failure(self, ordinal: int, failure: FileFailure) -> None:
        self._write(ordinal, FAILURE, asdict(failure))

    def write_status(self, ordinal: int, status: dict[str, Any]) -> None:
        """How far a reader is, for `progress.Watch` in another process."""
        self._write(ordinal, STATUS, status)

    def drop_status(self, ordinal: int) -> None:
        (self.folder / f"{ordinal:06d}{STATUS}").unlink(missing_ok=True)

    def list_ordinals(self, suffix: str) -> list[int]:
        """Ordinals of the files that have a report, a failure or a status."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        return sorted(int(name[:6]) for name in names if name.endswith(suffix) and name[:-len(suffix)].isdigit())

    def read_report(self, ordinal: int) -> FileReport:
        return FileReport(**json.loads((self.folder / f"{ordinal:06d}{REPORT}").read_bytes()))

    def read_failure(self, ordinal: int) -> FileFailure:
        return FileFailure(**json.loads((self.folder / f"{ordinal:06d}{FAILURE}").read_bytes()))

    def read_status(self, ordinal: int) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.folder / f"{ordinal:06d}{STATUS}").read_bytes())
        return status

    def remove(self) -> None:
        """Removes the slice's folder, with whatever other settings have left there."""
        _remove(self.folder)
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _write(self, ordinal: int, suffix: str, content: dict[str, Any], durable: bool = False) -> None:
        write_whole(self.folder / f"{ordinal:06d}{suffix}", json.dumps(content), durable=durable)


def open_staging(lake: str, plan: SlicePlan, settings: CrawlSettings, blocked: frozenset[str]) -> Staging:
    """The slice's staging as an earlier try has left it, ready for the next one: what that could not read is open again.

    The caller holds the slice's run: what is half-written there is nobody's.
    """
    parent = Path(lake) / "_staging" / "ingest_pages" / plan.key
    staging = Staging(parent / fingerprint(plan, settings, blocked))
    for other in parent.iterdir() if parent.is_dir() else ():
        if other != staging.folder:
            _remove(other)
    staging.folder.mkdir(parents=True, exist_ok=True)
    for file in staging.folder.iterdir():
        if file.suffix in (".part", FAILURE, STATUS):
            file.unlink(missing_ok=True)
    return staging


def _remove(folder: Path) -> None:
    """Gives up a fingerprint's folder; killed in between, it leaves no report whose pages are gone already."""
    gone = folder.with_name(f"{uuid.uuid4().hex}.gone")
    with suppress(OSError):
        folder.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def fingerprint(plan: SlicePlan, settings: CrawlSettings, blocked: frozenset[str]) -> str:
    """A hash of the files of a slice and of what decides over their pages: settings, and the hosts that are blocked."""
    rules = settings.model_dump(mode="json", exclude=_UNSTAGED)
    rules["rules"].pop("blocked_hosts")
    content = json.dumps([RULES_VERSION, plan.key, plan.base, plan.files, rules, sorted(blocked)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class PageWriter:
    """The pages of one file; they are there when `close` returns, and nothing of them before.

    Raises:
        LakeError: they cannot be written, which is no fault of the file.
    """

    def __init__(self, staging: Staging, ordinal: int) -> None:
        self._target = staging.pages_path(ordinal)
        self._scratch = staging.folder / f"{uuid.uuid4().hex}.part"
        self._waiting: list[pa.RecordBatch] = []
        self.pages = 0
        try:
            self._writer = pq.ParquetWriter(
                str(self._scratch), STAGED, compression="none", use_dictionary=_REPEATING, write_statistics=False
            )
        except OSError as error:
            raise self._explain(error) from error

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._waiting += [batch for batch in batches if batch.num_rows]
        self.pages += sum(batch.num_rows for batch in batches)
        if sum(batch.nbytes for batch in self._waiting) >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Puts the pages in their place, safe from a crash of the machine."""
        try:
            self._flush()
            self._writer.close()
            with self._scratch.open("rb") as stream:
                os.fsync(stream.fileno())
            self._scratch.replace(self._target)
        except OSError as error:
            raise self._explain(error) from error

    def discard(self) -> None:
        """Gives up what is not in its place yet."""
        if self._scratch.exists():
            self._writer.close()
            self._scratch.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._waiting:
            try:
                self._writer.write_table(pa.Table.from_batches(self._waiting, STAGED).combine_chunks())
            except OSError as error:
                raise self._explain(error) from error
        self._waiting = []

    def _explain(self, error: OSError) -> LakeError:
        return LakeError(
            f"Pages cannot be kept in {self._target}: {error}",
            wanted="room and rights in the lake's folder _staging",
            cure="make room, then run the task again; files that were read are not read again",
        )
