"""Codes: how many bits differ at an angle, and which pairs are found by them."""

from __future__ import annotations

from math import acos, pi
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from persona_hub.dedup.codes import BITS, WORDS, code_radius, find_close, make_codes, word_radii

FIRST_CODE = [
    "3b9a95a13d5911fe", "b10c09eb0037ed62", "8849db8e834ac58d", "697e22b632b5f4f3", "d3ef11405ec11d68", "cbfc9a4bb514e265",
]  # fmt: skip


def make_pairs(cosine: float, count: int, dimensions: int, seed: int = 1) -> NDArray[np.float32]:
    """(2, count, d): rows of length 1 of which the pairs have this cosine."""
    a, noise = np.random.default_rng(seed).standard_normal((2, count, dimensions))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    noise -= (noise * a).sum(axis=1, keepdims=True) * a
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return np.stack([a, cosine * a + (1 - cosine**2) ** 0.5 * noise]).astype(np.float32)


def count_differing(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)


@pytest.mark.parametrize("dimensions", [2, 100, 384, 768])
@pytest.mark.parametrize("cosine", [0.5, 0.7, 0.9, 0.99])
def test_differing_bits_tell_the_angle(cosine: float, dimensions: int) -> None:
    p = acos(cosine) / pi
    a, b = (make_codes(side) for side in make_pairs(cosine, 2000, dimensions))
    differing = count_differing(a, b)
    assert differing.mean() == pytest.approx(BITS * p, rel=0.03)
    if dimensions > 2:  # in a plane the hyperplanes of a batch stand square: their bits depend on each other
        assert differing.std() <= 1.05 * (BITS * p * (1 - p)) ** 0.5
    assert (differing > code_radius(cosine, 4)).mean() <= 0.001


def test_a_code_depends_on_its_vectors_direction_only(shared_data: Path) -> None:
    vectors = np.load(shared_data / "personas" / "personahub_minilm.f16.npy")[:3000].astype(np.float32)
    codes = make_codes(vectors)
    assert codes.shape == (3000, WORDS)
    assert codes.dtype == np.uint64
    assert len(np.unique(codes, axis=0)) == len(np.unique(vectors, axis=0))
    rng = np.random.default_rng(1)
    for rows in (rng.permutation(3000), np.arange(510, 514), np.array([2999])):
        assert np.array_equal(codes[rows], make_codes(vectors[rows]))
    assert np.array_equal(codes, make_codes(vectors * 4))
    assert np.array_equal(~codes, make_codes(-vectors))


def test_codes_stay_what_they_are_for_ever() -> None:
    assert [f"{word:016x}" for word in make_codes(np.eye(4, dtype=np.float32)[:1])[0]] == FIRST_CODE


def test_radius() -> None:
    assert code_radius(0.9, 4) == 83
    assert code_radius(1.0, 4) == 0
    assert code_radius(0.5, 4) == 165
    assert code_radius(-1.0, 4) == BITS
    assert word_radii(0) == [0] * WORDS
    assert word_radii(BITS) == [64, 128, 192, 256, 320, 384]
    assert word_radii(83)[-1] == 83


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_all_close_pairs_are_found_and_no_other(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    few = rng.integers(0, 2**64, (5, WORDS), np.uint64)
    few[1:3] = few[0] ^ (few[1:3] & few[3:5])  # some are near each other
    codes = few[data.draw(st.lists(st.integers(0, 4), max_size=40))].reshape(-1, WORDS)
    split = data.draw(st.integers(0, len(codes)))
    radius = data.draw(st.sampled_from([0, 60, 96, 150, 384]))
    radii = np.array(word_radii(radius))

    def is_close(i: int, j: int) -> bool:
        return bool((np.bitwise_count(codes[i] ^ codes[j]).astype(int).cumsum() <= radii).all())

    def find(left: range, right: range) -> list[tuple[int, int]]:
        sides = (np.ascontiguousarray(codes[side.start : side.stop].T) for side in (left, right))
        found = find_close(*sides, radius)
        return sorted((int(a) + left.start, int(b) + right.start) for i, j in found for a, b in zip(i, j, strict=True))

    first, second = range(split), range(split, len(codes))
    assert find(first, second) == [(i, j) for i in first for j in second if is_close(i, j)]


@pytest.mark.parametrize(("left", "right"), [(3, 9000), (9000, 3), (5000, 5000)])
def test_blocks_join_without_a_seam(left: int, right: int) -> None:
    codes = np.random.default_rng(3).integers(0, 2**64, (max(left, right), WORDS), np.uint64)
    codes[-1] = codes[0]
    codes[4096 % len(codes)] = codes[1]
    a, b = np.ascontiguousarray(codes[:left].T), np.ascontiguousarray(codes[:right].T)
    found = {(int(u), int(v)) for i, j in find_close(a, b, 20) for u, v in zip(i, j, strict=True)}
    same = {(i, i) for i in range(min(left, right))}
    twins = {(0, len(codes) - 1), (1, 4096 % len(codes))}
    twins |= {(v, u) for u, v in twins}
    assert found == {(i, j) for i, j in same | twins if i < left and j < right}


def test_the_words_own_radii_lose_next_to_no_true_pair() -> None:
    for cosine in (0.5, 0.7, 0.9):
        a, b = (make_codes(side) for side in make_pairs(cosine, 5000, 384, seed=7))
        radius = code_radius(cosine, 4)
        words = np.bitwise_count(a ^ b).astype(int).cumsum(axis=1)
        lost = (words > np.array(word_radii(radius))).any(axis=1)
        assert lost.mean() < 0.001
