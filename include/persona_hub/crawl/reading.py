"""One crawl file → its staged pages: fetched, read, judged, on an executor.

A file that cannot be read is no error here: why stands beside its place in the staging, and the others go on.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from persona_hub.core.background import repeat
from persona_hub.core.keys import page_id, text_hash
from persona_hub.core.page_judge import PageJudge, Verdict
from persona_hub.crawl.files import Access, open_file
from persona_hub.crawl.records import Page, ReadReport, read_pages
from persona_hub.crawl.staging import STAGED, FileFailure, FileReport, PageWriter, Staging
from persona_hub.crawl.turns import count_waited
from persona_hub.errors import CrawlError, LakeError

STATUS_S = 1.0
BATCH_PAGES = 256
BATCH_CHARS = 4 << 20
"""A body may have 16 MiB: a batch of pages ends where it has grown to this."""


@dataclass(frozen=True)
class FilePlan:
    """One file of a slice, and where it goes."""

    slice: str
    base: str
    ordinal: int
    path: str


def stage_file(staging: Staging, plan: FilePlan, access: Access, judge: PageJudge) -> None:
    """Reads one file into the staging; its report, or why it failed, is there when this returns.

    Raises:
        LakeError: the staging cannot be written.
    """
    report = ReadReport()
    writer = PageWriter(staging, plan.ordinal)
    failure = None
    try:
        # From before it is open: that may already mean to wait for a turn.
        with _tell(staging, plan.ordinal, report, writer) as opened, open_file(plan.base, plan.path, access) as stream:
            opened.append(stream)
            for pages in _batch(read_pages(stream, plan.path, report)):
                writer.write(_shape(plan, pages, judge))
        writer.close()
    except CrawlError as error:
        failure = FileFailure(type(error).__name__, str(error))
    except OSError as error:
        failure = FileFailure("SourceError", f"{plan.path} in {plan.base} cannot be read: {error}")
    finally:
        writer.discard()
    try:
        if failure:
            staging.write_failure(plan.ordinal, failure)
        else:
            staging.write_report(plan.ordinal, _sum_up(report, writer.pages))
        staging.drop_status(plan.ordinal)
    except OSError as error:
        raise LakeError(f"{staging.folder} cannot be written: {error}", cure="make room, then run the task again") from error


def _batch(pages: Iterator[Page]) -> Iterator[list[Page]]:
    batch, chars = [], 0
    for page in pages:
        batch.append(page)
        chars += len(page.text)
        if len(batch) >= BATCH_PAGES or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _shape(plan: FilePlan, pages: list[Page], judge: PageJudge) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The batch's kept pages, and its dropped ones, as rows of STAGED."""
    readable = [page for page in pages if page.refusal is None]
    verdicts = judge.judge([page.text for page in readable], [page.url for page in readable])
    kept = [(page, verdict) for page, verdict in zip(readable, verdicts, strict=True) if verdict.refusal is None]
    refused = [(page, page.refusal) for page in pages if page.refusal]
    refused += [(page, verdict.refusal) for page, verdict in zip(readable, verdicts, strict=True) if verdict.refusal]
    dropped = {
        "page_id": [page_id(plan.slice, plan.ordinal, page.record_number) for page, _ in refused],
        "url": [page.url for page, _ in refused],
        "rule": [refusal.rule for _, refusal in refused],
        "detail": [refusal.detail for _, refusal in refused],
    }
    return _build(_keep(plan, kept), len(kept)), _build(dropped, len(refused))


def _keep(plan: FilePlan, kept: Sequence[tuple[Page, Verdict]]) -> dict[str, list[Any]]:
    pages, verdicts = [page for page, _ in kept], [verdict for _, verdict in kept]
    return {
        "slice": [plan.slice] * len(kept),
        "page_id": [page_id(plan.slice, plan.ordinal, page.record_number) for page in pages],
        "file_base": [plan.base] * len(kept),
        "file_path": [plan.path] * len(kept),
        "record_number": [page.record_number for page in pages],
        "record_type": [page.record_type for page in pages],
        "record_id": [page.record_id for page in pages],
        "record_offset": [page.offset for page in pages],
        "record_length": [page.length for page in pages],
        "digest_ok": [page.digest_ok for page in pages],
        "url": [page.url for page in pages],
        "domain": [verdict.domain for verdict in verdicts],
        "crawled_at": [page.crawled_at for page in pages],
        "declared_language": [page.declared_language for page in pages],
        "language": [verdict.language for verdict in verdicts],
        "language_rank": [verdict.language_rank for verdict in verdicts],
        "text": [verdict.text for verdict in verdicts],
        "truncated": [verdict.truncated or page.body_cut for page, verdict in kept],
        "text_hash": [text_hash(verdict.text) for verdict in verdicts],
    }


def _build(columns: dict[str, list[Any]], rows: int) -> pa.RecordBatch:
    def make(field: pa.Field) -> pa.Array:
        if field.name not in columns:
            return pa.nulls(rows, field.type)
        return pa.array(columns[field.name], field.type)

    return pa.RecordBatch.from_arrays([make(field) for field in STAGED], schema=STAGED)


def _sum_up(report: ReadReport, pages: int) -> FileReport:
    counts = {
        "files_cut": int(report.cut is not None),
        "digests_verified": report.digests_verified,
        "digests_failed": report.digests_failed,
        "invalid_utf8": report.invalid_utf8,
        "bodies_cut": report.bodies_cut,
        "skipped_bytes": report.skipped_bytes,
        **{f"records_{kind}": count for kind, count in report.records.items()},
        **{f"refused_{kind}": count for kind, count in report.refused.items()},
    }
    return FileReport(pages, report.stored_bytes, {name: count for name, count in counts.items() if count}, report.cut)


@contextmanager
def _tell(staging: Staging, ordinal: int, report: ReadReport, writer: PageWriter) -> Iterator[list[BinaryIO]]:
    """Says every second how far the file is read; ends the process when that which started it is gone.

    Yields:
        A list for the opened file.
    """
    parent, opened, waited = os.getppid(), list[BinaryIO](), count_waited()

    def tell() -> None:
        nonlocal waited
        if os.getppid() != parent:
            os._exit(1)  # nobody waits for these pages, and their source is asked for nothing that is not wanted
        waited, before = count_waited(), waited
        status = {
            "pages": writer.pages,
            "bytes": report.stored_bytes,
            "size": _find_size(opened[0]) if opened else None,
            "waits": waited - before > STATUS_S / 2,
        }
        with suppress(OSError):  # a full disk; the pages themselves will say so
            staging.write_status(ordinal, status)

    with repeat(tell, STATUS_S, f"status {ordinal}"):
        yield opened


def _find_size(stream: BinaryIO) -> int | None:
    """Bytes of the stored file, where somebody has said it; a pipe has none."""
    raw = getattr(stream, "raw", None)
    if isinstance(raw, io.FileIO):
        return None if stream.closed else os.fstat(stream.fileno()).st_size or None
    return getattr(raw, "total", None)
