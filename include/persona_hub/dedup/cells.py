"""Cells: the rows around a centroid, among which a row looks for its like (inverted file: Sivic, Zisserman 2003).

A row is at home in the cell of its nearest centroid and visits those of the next ones; rows of one cell are compared
where one of them at least is at home there. So a pair is missed only where neither home is among the other's cells.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.cosine import multiply_blocks
from persona_hub.errors import LakeError

ITERATIONS = 5

_SEED = 20240628


def count_cells(rows: int, shortest: int) -> int:
    """Cells for so many rows: of `shortest` rows each, or of as many rows as there are cells where that is more.

    Fewer rows a cell make more centroids to compare with, more make longer cells; where both grow with the root of the
    rows, a row costs about rows ** 0.5 (as in Johnson, Douze, Jegou: Billion-scale similarity search with GPUs, 2017).
    """
    return max(1, rows // max(shortest, isqrt(rows)))


def train_centroids(sample: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """k-means on a sample, its means brought to length 1: near enough to spherical k-means (Dhillon, Modha 2001).

    Args:
        sample: (n, d) of length 1; some sixty rows a cell.
        cells: wanted; where fewer rows are distinct, there are no more cells than those.

    Returns:
        (cells, d) of length 1, distinct. The same sample gives the same cells but for float noise, so they are stored.

    Raises:
        LakeError: no rows.
    """
    from sklearn.cluster import KMeans  # half a second, and only where cells are trained

    if not len(sample):
        raise LakeError("No vectors to train cells on", wanted="at least one")
    # A text that fills half the sample is one point: it needs one cell, not half of them.
    distinct = sample[list({row.tobytes(): place for place, row in enumerate(sample)}.values())]
    means = KMeans(
        min(cells, len(distinct)), init="random", n_init=1, max_iter=ITERATIONS, random_state=_SEED
    ).fit(distinct).cluster_centers_  # fmt: skip
    means = means.astype(np.float32)
    means[np.linalg.norm(means, axis=1) < 1e-3] = distinct[0]  # opposite rows have no direction in common
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return np.unique(means, axis=0)


def assign_cells(vectors: NDArray[np.float32], centroids: NDArray[np.float32], probes: int) -> NDArray[np.uint32]:
    """The cells of each row.

    Args:
        vectors: (n, d)
        centroids: (cells, d) of length 1.
        probes: cells a row; at most as many as there are.

    Returns:
        (n, min(probes, cells)) home first, then by falling cosine; of equal ones the lowest number first. A row's cells
        do not depend on the rows beside it.

    Raises:
        LakeError: the dimensions differ.
    """
    probes = min(probes, len(centroids))
    cells = np.empty((len(vectors), probes), np.uint32)
    for start, cosines in multiply_blocks(vectors, centroids.T):
        every = np.arange(len(cosines))
        for place in range(probes):
            best = cosines.argmax(axis=1)
            cells[start : start + len(cosines), place] = best
            cosines[every, best] = -np.inf
    return cells
