"""Cells and codes to pairs that are worth comparing: new rows with stored ones, of which only codes are read.

Two rows meet in a cell where one of them at least is at home. New rows of one text are one there, their lowest row
number, so that a million copies cost a million; stored rows have each been kept, so no two of them are alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.codes import WORDS, find_close

CODE_RECORD = np.dtype(
    [("cell", "<u4"), ("flags", "u1"), ("text", "<i8"), ("row", "<i8"), ("code", "<u8", (WORDS,))]
)
"""A row in one of its cells. Rows of one `text` have one vector, so the same cells and code."""
IS_NEW, IS_HOME = 1, 2

Records = np.ndarray[tuple[int], np.dtype[np.void]]
Pairs = NDArray[np.int64]


def collapse_texts(records: Records) -> tuple[Records, Pairs]:
    """One record for each text in each cell, and who stands behind it.

    Args:
        records: (n,) with the fields cell, flags, text and row; all of the texts that they name.

    Returns:
        (k,) of the lowest row of each text, by cell, in it homes before visitors; and (m, 2) [lowest, other row] of the
        others, told where they are at home.
    """
    order = np.lexsort((records["row"], records["text"], records["flags"] & IS_HOME == 0, records["cell"]))
    cells, texts, rows = (records[name][order] for name in ("cell", "text", "row"))
    is_first = np.ones(len(records), np.bool_)
    is_first[1:] = (cells[1:] != cells[:-1]) | (texts[1:] != texts[:-1])
    firsts = np.flatnonzero(is_first)
    lowest = rows[firsts[np.cumsum(is_first) - 1]] if len(firsts) else rows
    told = ~is_first & (rows != lowest) & (records["flags"][order] & IS_HOME > 0)
    return np.take(records, order[firsts]), np.stack([lowest[told], rows[told]], axis=1)


def find_between(new: Records, stored: Records, radius: int) -> Pairs:
    """Pairs of a new and a stored row whose codes differ in at most so many bits.

    Any division of the stored rows into batches gives the same pairs.

    Args:
        new: CODE_RECORD (n,), collapsed.
        stored: CODE_RECORD (m,), in any order; those of cells without a new row are passed over.
        radius: differing bits (`code_radius`).

    Returns:
        (k, 2) [new row, stored row], each pair once.
    """
    cells = np.unique(new["cell"])
    stored = stored[np.isin(stored["cell"], cells)]
    stored = stored[np.lexsort((stored["flags"] & IS_HOME == 0, stored["cell"]))]
    ours, theirs = _find_ranges(new, cells), _find_ranges(stored, cells)
    left, right = _by_word(new["code"]), _by_word(stored["code"])
    found = [np.zeros((0, 2), np.int64)]
    for (home, visit, end), (their_home, their_visit, their_end) in zip(ours, theirs, strict=True):
        for mine, other in ((slice(home, visit), slice(their_home, their_end)), (slice(visit, end), slice(their_home, their_visit))):
            if mine.stop > mine.start and other.stop > other.start:
                for i, j in find_close(left[:, mine], right[:, other], radius):
                    found.append(np.stack([new["row"][i + mine.start], stored["row"][j + other.start]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def find_everywhere(queries: Records, homes: Records, radius: int) -> Pairs:
    """All pairs by code alone, in whatever cells: what recall is measured against.

    Args:
        queries, homes: CODE_RECORD (q,) and (n,), one record a row. It takes q * n times about 3 ns.

    Returns:
        (k, 2): a query's row, another text's row. Two queries that are near give both orders.
    """
    found = [np.zeros((0, 2), np.int64)]
    for i, j in find_close(_by_word(queries["code"]), _by_word(homes["code"]), radius):
        other = queries["text"][i] != homes["text"][j]
        found.append(np.stack([queries["row"][i[other]], homes["row"][j[other]]], axis=1))
    return np.concatenate(found)


def _find_ranges(records: Records, cells: NDArray[np.uint32]) -> list[tuple[int, int, int]]:
    """Of each cell, where its homes begin, its visitors begin, and both end."""
    place = records["cell"].astype(np.int64) * 2 + (records["flags"] & IS_HOME == 0)
    bounds = np.searchsorted(place, cells.astype(np.int64)[:, None] * 2 + np.arange(3))
    return [(int(a), int(b), int(c)) for a, b, c in bounds]


def _by_word(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(codes.T)
