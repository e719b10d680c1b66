"""Similar pairs among rows whose vectors are at hand: block products inside each cell, exact cosines of what is near."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.cell_candidates import IS_HOME, Pairs, Records, collapse_texts
from persona_hub.dedup.cosine import exact_cosines, widen

_BLOCK = 1024
_SLACK = 0.002  # half floats of length 1 have one of 1 +- 0.0005, and single precision rounds the product
_PAIRS_AT_ONCE = 65_536  # whose vectors stand in memory beside each other: 200 MB
_FEW = 5_000  # records, of which all vectors are multiplied sooner than axes are found
_SAMPLE = 4_000


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
    axes = _find_axes(records["vector"], threshold)
    bounds = np.flatnonzero(np.diff(records["cell"].astype(np.int64), prepend=-1, append=-1))
    for start, end in pairwise(bounds):
        cell = records[start:end]
        homes = int(np.count_nonzero(cell["flags"] & IS_HOME))
        vectors = widen(cell["vector"])
        short = vectors if axes is None else _shorten(vectors, axes)
        for top in range(0, homes, _BLOCK):
            near = short[top : min(top + _BLOCK, homes)] @ short[top:].T >= threshold - _SLACK
            i, j = np.divmod(np.flatnonzero(near), near.shape[1])  # of two dimensions it takes ten times as long
            i, j = i[j > i] + top, j[j > i] + top
            exact = _measure(vectors, i, j)
            sure = exact >= threshold
            pairs.append(np.sort(np.stack([cell["row"][i[sure]], cell["row"][j[sure]]], axis=1), axis=1))
            cosines.append(exact[sure])
    all_pairs, firsts = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return Similar(identical, all_pairs, np.concatenate(cosines)[firsts])


def _find_axes(vectors: NDArray[np.float16], threshold: float) -> NDArray[np.float32] | None:
    """The fewest principal axes (d, k) that hold so much of the vectors that `_shorten` tells most pairs apart.

    None where all dimensions are as quick. Two rows of one cell have a cosine of about a half.
    """
    if len(vectors) < _FEW:
        return None
    sample = widen(vectors[:: len(vectors) // _SAMPLE])
    values, axes = np.linalg.eigh(sample.T @ sample)
    rest = np.cumsum(np.maximum(values, 0)) / values.sum()  # of the square length, in the axes up to each
    left_out = int(np.count_nonzero(rest <= (threshold - 0.4) / 2))
    return np.ascontiguousarray(axes[:, left_out:]) if left_out > len(values) / 2 else None


def _shorten(vectors: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors whose products are at least those of the long ones: along the axes, and the length of what is left.

    a.b = a1.b1 + a2.b2 <= a1.b1 + |a2| |b2| (Cauchy, Schwarz), where a1 lies along the axes and a2 at right angles.
    """
    along = vectors @ axes
    squares = np.einsum("ij,ij->i", vectors, vectors) - np.einsum("ij,ij->i", along, along)
    return np.column_stack([along, np.sqrt(np.maximum(squares, 0))])


def _measure(vectors: NDArray[np.float32], i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float64]:
    cosines = np.empty(len(i))
    for start in range(0, len(i), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        cosines[some] = exact_cosines(vectors[i[some]], vectors[j[some]])
    return cosines
