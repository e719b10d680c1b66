"""Bronze: pages as they were crawled."""

from __future__ import annotations

from persona_hub.core.keys import PAGE_PATTERN, SLICE_PATTERN
from persona_hub.tables.model import Column, Table

SLICE = Column("slice", "STRING", "Crawl slice, the partition key of the run", pattern=f"^{SLICE_PATTERN}$")

PAGES = Table(
    "bronze.pages",
    "Pages of crawl files that passed the page rules, one row a record.",
    (
        SLICE,
        Column("page_id", "STRING", "slice / file / record: the address of the record", pattern=f"^{PAGE_PATTERN}$"),
        Column("file_base", "STRING", "Folder or address under which the crawl file was read"),
        Column("file_path", "STRING", "Path of the crawl file in the snapshot's list"),
        Column("record_number", "BIGINT", "Number of the record in its file, from 0, the warcinfo record included"),
        Column("record_type", "STRING", "conversion (WET), response (WARC) or arc"),
        Column("record_id", "STRING", "WARC-Record-ID; null in ARC files, whose records have none", True),
        Column("record_offset", "BIGINT", "First byte of the record, or of the gzip member or zstd frame that holds it alone; null where several share one", True),
        Column("record_length", "BIGINT", "Bytes from there on", True),
        Column("digest_ok", "BOOLEAN", "Whether the WARC-Block-Digest is right; null where there is none", True),
        Column("url", "STRING", "WARC-Target-URI"),
        Column("domain", "STRING", "Registered domain of its host by the public suffix list; the host where there is none"),
        Column("crawled_at", "TIMESTAMP", "WARC-Date", True),
        Column("declared_language", "STRING", "First of WARC-Identified-Content-Language (ISO 639-3)", True),
        Column("language", "STRING", "As detected in the text (ISO 639-1): the nearest, however far", True),
        Column("language_rank", "BIGINT", "The detector's distance from that language's profile: lower is surer, above 1200 is a guess", True),
        Column("text", "STRING", "The page's text, of HTML its main content; bytes that are no text became U+FFFD"),
        Column("truncated", "BOOLEAN", "Whether the text was cut: at crawl.max_chars, or because the record is longer than 16 MiB, or than it says"),
        Column("text_hash", "STRING", "128-bit BLAKE2b of the text"),
    ),
    key=("page_id",),
    cluster=("slice", "page_id"),
    checks={"id_in_slice": "startswith(page_id, slice || '/')", "text_present": "length(text) > 0"},
)

CRAWL_FILES = Table(
    "bronze.crawl_files",
    "The files of every snapshot in the crawl calendar. Rows are added with their snapshot and never change.",
    (
        Column("snapshot", "STRING", "Snapshot as the calendar names it"),
        Column("ordinal", "BIGINT", "Place in the snapshot's list, from 0"),
        Column("path", "STRING", "Path below the snapshot's base"),
        SLICE,
    ),
    key=("snapshot", "ordinal"),
)
