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
        Column("record_id", "STRING", "WARC-Record-ID"),
        Column("record_offset", "BIGINT", "First byte of the record's own gzip member; null in one-member files", True),
        Column("record_length", "BIGINT", "Bytes of that member", True),
        Column("digest_ok", "BOOLEAN", "Whether the WARC-Block-Digest is right; null where there is none", True),
        Column("url", "STRING", "WARC-Target-URI"),
        Column("crawled_at", "TIMESTAMP", "WARC-Date", True),
        Column("language", "STRING", "First of WARC-Identified-Content-Language (ISO 639-3)", True),
        Column("text", "STRING", "The page's text; bytes that are no UTF-8 became U+FFFD"),
        Column("truncated", "BOOLEAN", "Whether the text was cut at crawl.max_chars"),
        Column("text_hash", "STRING", "128-bit BLAKE2b of the text"),
    ),
    key=("page_id",),
    cluster=("slice", "page_id"),
    checks={"id_in_slice": "startswith(page_id, slice || '/')", "text_present": "length(text) > 0"},
)
