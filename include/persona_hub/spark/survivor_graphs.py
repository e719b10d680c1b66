"""Who stays, by arrays: tables of rows, groups and edges as the graphs of `dedup.survivors`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from persona_hub.dedup import survivors
from persona_hub.errors import LakeError

UNKNOWN = "A group or an edge names a row that is not among the rows"


def choose_from_tables(rows: pa.Table, groups: pa.Table, edges: pa.Table) -> pa.Table:
    """`survivors.choose_survivors` of tables with the same columns.

    Raises:
        LakeError: a group or an edge names a row that is not in `rows`, or two rows have one number.
    """
    # Strings compare by their bytes here as in Spark; null, not published yet, comes last.
    table = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in ("publication", "text_hash", "row_id")]))
    row = table["row"].to_numpy()
    by_number = np.sort(row)
    if (by_number[1:] == by_number[:-1]).any():
        raise make_collision()
    choice = survivors.choose_survivors(table["is_stored"].to_numpy(), read_graphs(row, by_number, groups, edges))
    gone = np.flatnonzero(choice.survivors >= 0)
    return pa.table(
        {
            "row": row[gone],
            "row_id": table["row_id"].take(pa.array(gone)),
            "survivor_id": table["row_id"].take(pa.array(choice.survivors[gone])),
            "step": choice.steps[gone].astype(np.int32),
            "similarity": choice.similarities[gone],
        }
    )


def make_collision() -> LakeError:
    """What to raise where numbers of rows are not distinct."""
    return LakeError(
        "Two rows have the same 64-bit number (xxhash64 of the id), which happens once in 37 hubs of a billion rows",
        wanted="different numbers",
        cure="look for an id that is there twice; if there is none, take one of the two slices under another snapshot's name",
    )


def read_graphs(
    rows: survivors.Rows, labels: survivors.Rows, groups: pa.Table, edges: pa.Table
) -> list[survivors.StepGraph]:
    """A graph of each step, from 0.

    Args:
        rows: (n,) rows by rank, the best first.
        labels: (k,) ascending; all rows and all that stands for a group.
        groups, edges: as for `survivors.choose_survivors`.
    """
    by_number = np.argsort(rows)
    own = _find(rows, labels)
    last = max((pc.max(table["step"]).as_py() for table in (groups, edges) if len(table)), default=-1)
    graphs = []
    for step in range(last + 1):
        listed, linked = (table.filter(pc.equal(table["step"], step)) for table in (groups, edges))
        numbers = own.copy()
        places = by_number[_find(listed["row"].to_numpy(), rows[by_number])]
        numbers[places] = _find(listed["representative"].to_numpy(), labels)
        pairs = np.stack([_find(linked[end].to_numpy(), labels) for end in ("a", "b")], axis=1)
        graphs.append(survivors.StepGraph(numbers, pairs, linked["similarity"].to_numpy()))
    return graphs


def _find(values: survivors.Rows, ordered: survivors.Rows) -> survivors.Rows:
    """Places of values in an ascending array."""
    places = np.searchsorted(ordered, values)
    if (places == len(ordered)).any() or (ordered[places] != values).any():
        raise LakeError(UNKNOWN, cure="give every row that stands in a group or an edge")
    return places
