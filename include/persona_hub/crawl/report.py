"""What was met while one crawl file was read: counted here, never raised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class ReadReport:
    """Filled while `read_pages` is consumed.

    Attributes:
        records: records whose header was read, by type: WARC-Type in lower case (`unknown` for what the standard does
            not name), and of ARC files `arc`, `filedesc` and `dns`.
        refused: faults by kind.
            `damaged_member`: a gzip member or zstd frame that does not inflate whole; what came out of it is used.
            `skipped_garbage`: runs of bytes that belong to no record.
            `cut_record`: a record that the file or the damage broke off; counted in `records`, but no page.
            `wrong_length`: a record whose Content-Length is not where it ends; it ends where the next one begins.
            `malformed`: a header without what a page needs (URL), or longer than 1 MiB.
            `bad_encoding`: a body whose Content-Encoding or chunks break off; the beginning is used.
            `bad_html`: HTML nested so deep that it was not parsed.
        skipped_bytes: bytes that belong to no record; stored ones where a member is lost, plain ones inside it.
        stored_bytes: bytes of the stored file that were read so far.
        cut: None, or where and how the file broke off: it is not whole.
        first_fault: None, or what was met first, for the log.
    """

    records: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    digests_verified: int = 0
    digests_failed: int = 0
    invalid_utf8: int = 0
    bodies_cut: int = 0
    skipped_bytes: int = 0
    stored_bytes: int = 0
    cut: str | None = None
    first_fault: str | None = None

    def note(self, kind: str, found: str, skipped: int = 0) -> None:
        """Counts a fault."""
        self.refused[kind] += 1
        self.skipped_bytes += skipped
        self.first_fault = self.first_fault or found
