"""Large tables without Spark: streamed by Arrow, those files only whose statistics do not rule them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from persona_hub.errors import TableMismatch
from persona_hub.tables.model import Table

BATCH_ROWS = 4_096
# One row group at a time: a page has up to 20,000 characters, and whoever looks has little memory.
_FRUGAL = {"batch_size": BATCH_ROWS, "batch_readahead": 1, "fragment_readahead": 1}


def scan_table(
    lake: str, table: Table, columns: Sequence[str], where: ds.Expression | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of the rows that pass, in no particular order; none where the table does not exist yet.

    Args:
        lake: root of the lake.
        table: one that Spark writes.
        columns: what is read; all else stays on the disk.
        where: rows that are wanted. Slices lie together, so one on `slice` reads a few files.

    Raises:
        TableMismatch: the stored table lacks columns of its description.
    """
    if stored := _open_table(lake, table):
        yield from stored.to_pyarrow_dataset().to_batches(columns=list(columns), filter=where, **_FRUGAL)


def scan_newest(
    lake: str, table: Table, by: str, columns: Sequence[str], where: ds.Expression
) -> Iterator[pa.RecordBatch]:
    """As `scan_table`, file by file, that with the largest value of the column `by` first: stop when it is enough."""
    if not (stored := _open_table(lake, table)):
        return
    rows = stored.to_pyarrow_dataset()
    fragments = {fragment.path: fragment for fragment in rows.get_fragments(where)}
    files = pa.table(stored.get_add_actions(flatten=True))
    largest = dict(zip(files["path"].to_pylist(), files[f"max.{by}"].to_pylist(), strict=True)) if fragments else {}
    for path in sorted(fragments, key=lambda path: largest[path], reverse=True):
        yield from fragments[path].to_batches(schema=rows.schema, columns=list(columns), filter=where, **_FRUGAL)


def _open_table(lake: str, table: Table) -> DeltaTable | None:
    if not DeltaTable.is_deltatable(table.path(lake)):
        return None
    stored = DeltaTable(table.path(lake))
    if missing := set(table.column_names) - {field.name for field in stored.schema().fields}:
        raise TableMismatch(
            f"Table {table.name} at {table.path(lake)} lacks the columns {sorted(missing)}",
            wanted=", ".join(table.column_names),
            cure="migrate the table (CONTRIBUTING, 'Change a table'), or point PERSONA_HUB_LAKE to another lake",
        )
    return stored
