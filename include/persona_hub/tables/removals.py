"""Why a row is gone, and what a row replaced: one look-up each, without Spark."""

from __future__ import annotations

from typing import Any

import pyarrow.dataset as ds

from persona_hub.tables.scan import scan_table
from persona_hub.tables.silver import REMOVALS


def find_removal(lake: str, row_id: str) -> dict[str, Any] | None:
    """The row of silver.removals that says why a page, persona or sample is gone; None where nothing removed it.

    An id begins with its slice, and the table is clustered by it: files of other slices are not opened. Between a
    second deduplication and its publication two stages name a row; the earlier stage, which ran last, is returned.
    """
    slice_key = "/".join(row_id.split("/")[:2])
    rows = _read(lake, (ds.field("slice") == slice_key) & (ds.field("row_id") == row_id))
    return min(rows, key=lambda row: row["stage"], default=None)


def find_replaced(lake: str, survivor_id: str) -> list[dict[str, Any]]:
    """Rows of silver.removals that went for this one, of whatever slice, by id; the texts of the others are not read."""
    return sorted(_read(lake, ds.field("survivor_id") == survivor_id), key=lambda row: (row["row_id"], row["stage"]))


def _read(lake: str, where: ds.Expression) -> list[dict[str, Any]]:
    return [row for batch in scan_table(lake, REMOVALS, REMOVALS.column_names, where) for row in batch.to_pylist()]
