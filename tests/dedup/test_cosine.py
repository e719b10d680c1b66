"""Stored vectors: what comes back, what is refused, and cosines that depend on nothing but their two vectors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.dedup.cosine import exact_cosines, multiply_blocks, pack_vectors, unpack_vectors, widen
from persona_hub.errors import LakeError


def pack_rows(*rows: list[float]) -> pa.Array:
    return pa.array([np.array(row, "<f2").tobytes() for row in rows], pa.binary())


def test_real_vectors_come_back_bit_for_bit(shared_data: Path) -> None:
    halves = np.load(shared_data / "personas" / "personahub_minilm.f16.npy")[:500]
    packed = pack_vectors(halves.astype(np.float32))
    assert packed.type == pa.binary()
    assert packed.to_pylist() == [row.tobytes() for row in halves]
    vectors = unpack_vectors(packed, 384)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, halves.astype(np.float32))
    assert np.array_equal(unpack_vectors(packed.slice(100, 7)), vectors[100:107])
    joined = pa.concat_arrays([packed.slice(490), packed.slice(0, 2)])
    assert np.array_equal(unpack_vectors(joined), vectors[[*range(490, 500), 0, 1]])


def test_no_vectors() -> None:
    assert unpack_vectors(pa.array([], pa.binary()), 384).shape == (0, 384)
    assert len(pack_vectors(np.zeros((0, 384), np.float32))) == 0


@pytest.mark.parametrize(
    ("values", "dimensions", "found", "wanted"),
    [
        (pack_rows([1, 0], [1, 0, 0]), None, "Vector 1 of 2 has 6 bytes", "4 bytes: 2 half floats"),
        (pack_rows([1, 0], [0, 1]), 3, "Vector 0 of 2 has 4 bytes", "6 bytes: 3 half floats"),
        (pa.array([b"\0\x3c\0"], pa.binary()), None, "Vector 0 of 1 has 3 bytes", "2 bytes: 1 half floats"),
        (pa.array([b""], pa.binary()), None, "Vector 0 of 1 has 0 bytes", "2 bytes: 1 half floats"),
        (pa.array([b"\0\x3c", None], pa.binary()), None, "Vector 1 of 2 is missing", "2 bytes: 1 half floats"),
        (pack_rows([1, 0], [0, 1], [math.nan, 1]), None, "Vector 2 of 3 holds NaN or infinity", "finite numbers"),
        (pack_rows([1, 0], [1, -math.inf]), None, "Vector 1 of 2 holds NaN or infinity", "finite numbers"),
        (pack_rows([0, -0.0], [1, 0]), None, "Vector 0 of 2 is all zero", "not all of them zero"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(values: pa.Array, dimensions: int | None, found: str, wanted: str) -> None:
    with pytest.raises(LakeError) as refused:
        unpack_vectors(values, dimensions)
    assert found in refused.value.found
    assert wanted in refused.value.wanted


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e6, 0.0, 1e-9])
def test_a_bad_vector_is_not_stored(bad: float) -> None:
    with pytest.raises(LakeError, match="Vector 1 of 2"):
        pack_vectors(np.array([[1, 0], [bad, 0]], np.float32))


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.lists(st.floats(-2, 2, width=16), min_size=3, max_size=3).filter(any), min_size=2, max_size=30))
def test_cosines_are_those_of_the_formula(rows: list[list[float]]) -> None:
    a, b = np.array(rows, np.float32), np.array(rows[::-1], np.float32)
    for row, (u, v) in zip(exact_cosines(a, b), zip(rows, reversed(rows), strict=True), strict=True):
        shared = math.fsum(x * y for x, y in zip(u, v, strict=True))
        assert row == pytest.approx(shared / (math.hypot(*u) * math.hypot(*v)), abs=1e-9)
        assert -1 <= row <= 1
    assert (exact_cosines(a, a) == 1).all()


def test_a_cosine_depends_on_its_two_vectors_only() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 5000, 383)).astype(np.float32)
    cosines = exact_cosines(a, b)
    assert np.array_equal(cosines, exact_cosines(b, a))
    for rows in (rng.permutation(5000), np.arange(4090, 4100), np.array([17])):
        assert np.array_equal(cosines[rows], exact_cosines(a[rows], b[rows]))
    assert len(np.unique(cosines)) > 4990


def test_a_product_depends_on_its_row_only() -> None:
    rng = np.random.default_rng(2)
    vectors, matrix = rng.standard_normal((1100, 384), np.float32), rng.standard_normal((384, 77), np.float32)

    def multiply(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([product.copy() for _, product in multiply_blocks(rows, matrix)])

    products = multiply(vectors)
    assert np.allclose(products, vectors.astype(np.float64) @ matrix, atol=1e-4)
    for rows in (rng.permutation(1100), np.arange(511, 514), np.array([1099])):
        assert np.array_equal(products[rows], multiply(vectors[rows]))


def test_vectors_of_another_model_are_refused() -> None:
    with pytest.raises(LakeError, match="Vectors of 3 dimensions. Wanted: 2"):
        list(multiply_blocks(np.ones((1, 3), np.float32), np.ones((2, 5), np.float32)))


def test_every_half_float_is_widened_exactly() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    assert widen(halves).tobytes() == halves.astype(np.float32).tobytes()
    assert widen(np.stack([halves, halves])[:, ::3]).tobytes() == np.stack([halves, halves])[:, ::3].astype(np.float32).tobytes()
