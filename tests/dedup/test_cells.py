"""Cells: which a row gets, whatever comes with it, and how many there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from persona_hub.dedup.cells import assign_cells, train_centroids
from persona_hub.errors import LakeError


@pytest.fixture
def real_vectors(shared_data: Path) -> NDArray[np.float32]:
    return np.load(shared_data / "personas" / "personahub_minilm.f16.npy")[:6000].astype(np.float32)


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.sampled_from([(1, 0), (0, 1), (-1, 0), (0, -1), (0.6, 0.8)]), max_size=12),
    st.lists(st.sampled_from([(1, 0), (0, 1), (-1, 0), (0.8, 0.6)]), min_size=1, max_size=6),
    st.integers(1, 8),
)
def test_cells_are_the_nearest_and_of_equals_the_lowest(
    rows: list[tuple[float, float]], centroids: list[tuple[float, float]], probes: int
) -> None:
    vectors, means = np.array(rows, np.float32).reshape(-1, 2), np.array(centroids, np.float32)
    cells = assign_cells(vectors, means, probes)
    nearest = [sorted(range(len(means)), key=lambda cell: (-float(vector @ means[cell]), cell)) for vector in vectors]
    assert cells.shape == (len(rows), min(probes, len(means)))
    assert cells.dtype == np.uint32
    assert cells.tolist() == [order[:probes] for order in nearest]


def test_a_rows_cells_do_not_depend_on_the_rows_beside_it(real_vectors: NDArray[np.float32]) -> None:
    centroids = real_vectors[::97]  # every 97th row lies on a centroid, and near ties are many
    cells = assign_cells(real_vectors, centroids, 3)
    rng = np.random.default_rng(1)
    for rows in (rng.permutation(6000), np.arange(700, 702), np.array([5999])):
        assert np.array_equal(cells[rows], assign_cells(real_vectors[rows], centroids, 3))
    assert (cells[::97, 0] == np.arange(len(centroids))).all()


def test_trained_cells_hold_rows_that_are_nearer_than_chance(real_vectors: NDArray[np.float32]) -> None:
    centroids = train_centroids(real_vectors[:3000], 50)
    assert centroids.shape == (50, 384)
    assert centroids.dtype == np.float32
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.allclose(centroids, train_centroids(real_vectors[:3000], 50), atol=1e-5)
    homes = assign_cells(real_vectors[3000:], centroids, 1)[:, 0]
    sizes = np.bincount(homes, minlength=50)
    assert sizes.min() > 0
    assert sizes.max() < 600  # of 3,000; 60 on average
    to_own = (real_vectors[3000:] * centroids[homes]).sum(axis=1)
    to_any = (real_vectors[3000:] * centroids[np.roll(homes, 1)]).sum(axis=1)
    assert to_own.mean() > to_any.mean() + 0.2


@pytest.mark.parametrize(
    ("rows", "cells", "wanted"),
    [
        ([[1, 0]] * 1000, 10, [[1, 0]]),
        ([[1, 0]] * 1000 + [[0, 1]] * 3, 10, [[0, 1], [1, 0]]),
        ([[0, 1], [1, 0], [-1, 0]], 3, [[-1, 0], [0, 1], [1, 0]]),
    ],
)
def test_fewer_distinct_rows_than_cells(rows: list[list[float]], cells: int, wanted: list[list[float]]) -> None:
    assert train_centroids(np.array(rows, np.float32), cells).tolist() == wanted


def test_a_million_copies_take_one_cell_from_the_others(real_vectors: NDArray[np.float32]) -> None:
    sample = np.concatenate([real_vectors[:1000], np.repeat(real_vectors[:1], 9000, axis=0)])
    assert np.array_equal(train_centroids(sample, 20), train_centroids(real_vectors[:1000], 20))


def test_opposite_rows_still_have_a_cell() -> None:
    centroids = train_centroids(np.array([[1, 0], [-1, 0]], np.float32), 1)
    assert np.abs(centroids).tolist() == [[1, 0]]


def test_no_rows_and_wrong_dimensions_are_refused() -> None:
    with pytest.raises(LakeError, match="No vectors"):
        train_centroids(np.zeros((0, 4), np.float32), 2)
    with pytest.raises(LakeError, match="Vectors of 4 dimensions. Wanted: 3"):
        assign_cells(np.ones((1, 4), np.float32), np.eye(3, dtype=np.float32), 1)
