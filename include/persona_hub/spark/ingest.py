"""Crawl files → pages: one task per file, read as a stream on the executors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.core.filters import check_page, cut_text
from persona_hub.core.keys import page_id, text_hash
from persona_hub.core.text import normalize_whitespace
from persona_hub.crawl.calendar import SlicePlan
from persona_hub.crawl.files import open_file
from persona_hub.crawl.records import Page, ReadReport, read_pages
from persona_hub.errors import CrawlError
from persona_hub.settings import CrawlSettings
from persona_hub.spark.rows import map_rows
from persona_hub.tables.bronze import PAGES

# A page with `rule` set was refused; a row without page_id is a file's report, as JSON in `detail`.
READ_SCHEMA = ", ".join(f"{c.name} {c.type}" for c in PAGES.columns) + ", rule STRING, detail STRING"
_EMPTY_ROW: dict[str, Any] = dict.fromkeys([*PAGES.column_names, "rule", "detail"])


def read_slice(spark: SparkSession, plan: SlicePlan, settings: CrawlSettings) -> DataFrame:
    """Reads the files of a slice.

    Returns:
        Rows of READ_SCHEMA: each page of the files once, and one report per file.

    Raises:
        CrawlError: on an executor, when a file cannot be had or is no WARC file; it names the file.
    """
    files = spark.createDataFrame([(ordinal, path) for ordinal, path in plan.files], "ordinal BIGINT, path STRING")
    slice_key, base = plan.key, plan.base

    def read(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for row in rows:
            yield from _read_file(slice_key, base, row["ordinal"], row["path"], settings)

    return map_rows(files.repartition(len(plan.files), "ordinal"), read, READ_SCHEMA)


def choose_pages(pages: DataFrame, limit: int | None) -> DataFrame:
    """Marks the pages beyond `limit` with the rule `over_budget`: chosen by a hash of the id, so always the same."""
    if limit is None:
        return pages
    order = F.struct(F.xxhash64("page_id"), F.col("page_id"))
    chosen = pages.where("rule IS NULL").orderBy(order).limit(limit).select("page_id", F.lit(True).alias("chosen"))
    return (
        pages.join(chosen, on="page_id", how="left")
        .withColumn("rule", F.when(F.col("rule").isNull() & F.col("chosen").isNull(), "over_budget").otherwise(F.col("rule")))
        .drop("chosen")
    )


def sum_reports(details: Iterable[str]) -> dict[str, int]:
    """Adds up the files' reports into the events of the stage."""
    events: dict[str, int] = {}
    for detail in details:
        for name, count in json.loads(detail).items():
            events[name] = events.get(name, 0) + count
    return events


def _read_file(
    slice_key: str, base: str, ordinal: int, path: str, settings: CrawlSettings
) -> Iterator[dict[str, Any]]:
    report = ReadReport()
    try:
        with open_file(base, path) as stream:
            for page in read_pages(stream, path, report):
                yield _judge_page(slice_key, base, ordinal, path, page, settings)
    except OSError as error:
        raise CrawlError(f"{path} in {base} cannot be read: {error}", cure="run the task again") from error
    if report.cut:
        print(f"{path}: {report.cut}; the records before are used", flush=True)
    counts = {
        "files_read": 1,
        "files_cut": int(report.cut is not None),
        "digests_verified": report.digests_verified,
        "digests_failed": report.digests_failed,
        "invalid_utf8": report.invalid_utf8,
        "bodies_cut": report.bodies_cut,
        "malformed": report.malformed,
        **{f"records_{kind}": count for kind, count in report.records.items()},
    }
    yield _EMPTY_ROW | {"detail": json.dumps({name: count for name, count in counts.items() if count})}


def _judge_page(
    slice_key: str, base: str, ordinal: int, path: str, page: Page, settings: CrawlSettings
) -> dict[str, Any]:
    text, truncated = cut_text(normalize_whitespace(page.text), settings.max_chars)
    refusal = check_page(text, settings.min_chars)
    return {
        "slice": slice_key,
        "page_id": page_id(slice_key, ordinal, page.record_number),
        "file_base": base,
        "file_path": path,
        "record_number": page.record_number,
        "record_id": page.record_id,
        "record_offset": page.offset,
        "record_length": page.length,
        "digest_ok": page.digest_ok,
        "url": page.url,
        "crawled_at": page.crawled_at,
        "language": page.language,
        "text": text,
        "truncated": truncated or page.body_cut,
        "text_hash": text_hash(text),
        "rule": refusal.rule if refusal else None,
        "detail": refusal.detail if refusal else None,
    }
