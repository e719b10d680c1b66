"""Similar pairs among rows whose vectors are at hand: block products inside each cell, exact cosines of what is near."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.cell_candidates import IS_HOME, Pairs, Records, collapse_texts
from persona_hub.dedup.cosine import exact_cosines

_BLOCK = 1024
_SLACK = 0.002  # half floats of length 1 have one of 1 +- 0.0005, and single precision rounds the product


class Similar(NamedTuple):
    """Row numbers.

    Attributes:
        identical: (k, 2) [representative, row] of rows of one text; the representative is the lowest.
        pairs: (m, 2) of two representatives, the lower first; each once.
        cosines: (m,) at or above the threshold.
    """

    identical: Pairs
    pairs: Pairs
    cosines: NDArray[np.float64]


def vector_record(dimensions: int) -> np.dtype[Any]:
    """A row in one of its cells, with its vector."""
    return np.dtype(
        [("cell", "<u4"), ("flags", "u1"), ("text", "<i8"), ("row", "<i8"), ("vector", "<f2", (dimensions,))]
    )


def find_similar(records: Records, threshold: float) -> Similar:
    """All pairs of cosine >= threshold of which one row is at home in a cell and the other at home or a visitor there.

    A million rows of one text cost a million; a million texts of one meaning are that many pairs.

    Args:
        records: (n,) of `vector_record`, all records of the cells that they name, in any order.
    """
    records, identical = collapse_texts(records)
    pairs, cosines = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    bounds = np.flatnonzero(np.diff(records["cell"].astype(np.int64), prepend=-1, append=-1))
    for start, end in pairwise(bounds):
        cell = records[start:end]
        homes = int(np.count_nonzero(cell["flags"] & IS_HOME))
        vectors = cell["vector"].astype(np.float32)
        for top in range(0, homes, _BLOCK):
            rows = vectors[top : min(top + _BLOCK, homes)]
            i, j = np.nonzero(rows @ vectors[top:].T >= threshold - _SLACK)
            i, j = i[j > i] + top, j[j > i] + top
            exact = exact_cosines(vectors[i], vectors[j])
            near = exact >= threshold
            pairs.append(np.sort(np.stack([cell["row"][i[near]], cell["row"][j[near]]], axis=1), axis=1))
            cosines.append(exact[near])
    all_pairs, firsts = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return Similar(identical, all_pairs, np.concatenate(cosines)[firsts])
