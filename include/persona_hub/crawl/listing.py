"""What a source says of a snapshot: the seam between crawl/source.py, which fetches it, and the calendar."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class SnapshotListing:
    """One snapshot as its source lists it.

    Attributes:
        id: the snapshot's name, such as CC-MAIN-2026-30; first part of every slice key.
        end_date: when its crawl ended, timezone-aware.
        paths: its files in the order of the source; the place in it (from 0) is a file's ordinal for ever.
        base: folder or URL that the paths are relative to.
    """

    id: str
    end_date: datetime
    paths: tuple[str, ...]
    base: str
