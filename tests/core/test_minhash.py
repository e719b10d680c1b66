"""MinHash: its bands, and how many pairs they truly find."""

from __future__ import annotations

import random

import numpy as np
import pytest

from persona_hub.core.minhash import VALUES, choose_bands, hash_bands

THRESHOLDS = [round(0.5 + step / 100, 2) for step in range(51)]


def find_probability(jaccard: float, bands: int, rows: int) -> float:
    return 1 - (1 - jaccard**rows) ** bands


def make_pair(rng: random.Random, shared: int, own: int) -> tuple[frozenset[str], frozenset[str]]:
    """Two sets of Jaccard shared / (shared + 2 * own)."""
    words = [f"w{rng.getrandbits(60)}" for _ in range(shared + 2 * own)]
    return frozenset(words[: shared + own]), frozenset(words[:shared] + words[shared + own :])


def share_found(pairs: list[tuple[frozenset[str], frozenset[str]]], bands: int, rows: int) -> float:
    left, right = (hash_bands([pair[side] for pair in pairs], bands, rows) for side in (0, 1))
    return float((left == right).any(axis=1).mean())


def test_the_papers_threshold() -> None:
    assert choose_bands(0.9) == (18, 7)
    assert 1 - find_probability(0.9, 18, 7) == pytest.approx(1 / 122_000, rel=0.01)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_bands_find_what_stands_at_the_threshold_and_no_wider_band_would(threshold: float) -> None:
    bands, rows = choose_bands(threshold)
    assert bands * rows <= VALUES
    assert find_probability(threshold, bands, rows) >= 0.9999
    wider = [r for r in range(rows + 1, VALUES + 1) if find_probability(threshold, VALUES // r, r) >= 0.9999]
    assert wider == []


def test_equal_sets_have_equal_keys_whatever_else_is_signed() -> None:
    rng = random.Random(1)
    sets = [make_pair(rng, 8, 3)[0] for _ in range(50)]
    together = hash_bands(sets, 18, 7)
    assert together.shape == (50, 18)
    assert together.dtype == np.uint64
    again = hash_bands([frozenset(sorted(words, reverse=True)) for words in reversed(sets)], 18, 7)
    assert (together == again[::-1]).all()
    assert (hash_bands(sets[:1], 18, 7) == together[:1]).all()
    assert hash_bands([], 18, 7).shape == (0, 18)


def test_a_key_depends_on_every_value_of_its_band() -> None:
    pairs = [make_pair(random.Random(seed), 4, 4) for seed in range(300)]
    for bands, rows in ((1, 128), (128, 1)):
        found = share_found(pairs, bands, rows)
        assert (found == 0.0) if bands == 1 else (found == 1.0), (bands, rows)


@pytest.mark.parametrize(
    ("shared", "own", "bands", "rows"),
    [(18, 1, 18, 7), (36, 2, 18, 7), (14, 3, 18, 7), (10, 5, 18, 7), (8, 8, 18, 7), (10, 5, 64, 2), (2, 9, 64, 2)],
)
def test_random_pairs_are_found_as_often_as_the_formula_says(shared: int, own: int, bands: int, rows: int) -> None:
    rng = random.Random(f"{shared}/{own}/{bands}")
    pairs = [make_pair(rng, shared, own) for _ in range(4_000)]
    expected = find_probability(shared / (shared + 2 * own), bands, rows)
    spread = 4.5 * (expected * (1 - expected) / len(pairs)) ** 0.5
    assert share_found(pairs, bands, rows) == pytest.approx(expected, abs=spread + 1e-3)
