"""Similar rows by their vectors, in cells, against every pair one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.dedup import cell_pairs
from persona_hub.dedup.cell_candidates import IS_HOME, IS_NEW, Records
from persona_hub.dedup.cell_pairs import Similar, find_similar, vector_record
from persona_hub.dedup.cells import assign_cells
from persona_hub.dedup.cosine import exact_cosines

Pairs = dict[tuple[int, int], float]
DIMENSIONS = 3
# Few directions, of which many are at cosines of exactly 0, 0.5, 0.6, 0.8 and 1 of each other, but for the rounding.
CORNERS = np.array(
    [[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0.8, 0.6, 0], [0.6, 0.8, 0], [0.5, 0.5, 0.5**0.5], [-1, 0, 0], [0.99, 0.141, 0]]
)  # fmt: skip


class Text(NamedTuple):
    cells: list[int]  # home first
    corner: int


class Corpus(NamedTuple):
    texts: list[Text]
    rows: dict[int, int]  # number → text


@st.composite
def corpora(draw: st.DrawFn, cells: int = 3) -> Corpus:
    homes = st.permutations(range(cells)).map(lambda every: every[:2])
    texts = draw(st.lists(st.builds(Text, homes, st.integers(0, len(CORNERS) - 1)), min_size=1, max_size=8))
    numbers = st.integers(-(2**63), 2**63 - 1)
    return Corpus(texts, draw(st.dictionaries(numbers, st.integers(0, len(texts) - 1), max_size=16)))


def make_records(corpus: Corpus) -> Records:
    records = [
        (cell, IS_NEW + (place == 0) * IS_HOME, text * 11 - 30, number, CORNERS[corpus.texts[text].corner])
        for number, text in sorted(corpus.rows.items(), key=lambda item: (item[0] % 89, item))
        for place, cell in enumerate(corpus.texts[text].cells)
    ]
    return np.array(records, vector_record(DIMENSIONS))


def cosine(a: int, b: int) -> float:
    halves = CORNERS.astype(np.float16).astype(np.float32)
    return float(exact_cosines(halves[a : a + 1], halves[b : b + 1])[0])


def find_by_hand(corpus: Corpus, threshold: float) -> Pairs:
    found = {}
    for (one, a), (other, b) in combinations(sorted(corpus.rows.items()), 2):
        left, right = corpus.texts[a], corpus.texts[b]
        value = 1.0 if a == b else cosine(left.corner, right.corner)
        if value >= threshold and (left.cells[0] in right.cells or right.cells[0] in left.cells):
            found[one, other] = value
    return found


def expand(similar: Similar) -> Pairs:
    """What is found: a row stands for those of its text."""
    assert similar.identical.dtype == similar.pairs.dtype == np.int64
    behind: dict[int, set[int]] = {}
    for one, other in similar.identical.tolist():
        assert one < other
        behind.setdefault(one, {one}).add(other)
    pairs = list(map(tuple, similar.pairs.tolist()))
    assert len(pairs) == len(set(pairs)) and all(a < b for a, b in pairs)
    found = {pair: 1.0 for rows in behind.values() for pair in combinations(sorted(rows), 2)}
    for (a, b), value in zip(pairs, similar.cosines.tolist(), strict=True):
        for one in behind.get(a, {a}):
            found |= {(min(one, other), max(one, other)): value for other in behind.get(b, {b})}
    return found


@settings(deadline=None)  # the machine may be busy
@given(corpora(), st.sampled_from([0.5, 0.6, 0.8, 0.9, 1.0]), st.sampled_from([1, 2, 5, 1024]))
def test_all_pairs_and_no_other(corpus: Corpus, threshold: float, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_pairs, "_BLOCK", block)
        assert expand(find_similar(make_records(corpus), threshold)) == find_by_hand(corpus, threshold)


@settings(deadline=None)  # the machine may be busy
@given(corpora(), st.sampled_from([0.6, 0.9]))
def test_each_cell_may_be_looked_at_alone(corpus: Corpus, threshold: float) -> None:
    records = make_records(corpus)
    apart = [find_similar(records[records["cell"] == cell], threshold) for cell in np.unique(records["cell"])]
    pairs = {
        (a, b): value for one in apart for (a, b), value in zip(one.pairs.tolist(), one.cosines.tolist(), strict=True)
    }
    together = find_similar(records, threshold)
    assert pairs == dict(zip(map(tuple, together.pairs.tolist()), together.cosines.tolist(), strict=True))
    assert sorted(pair for one in apart for pair in one.identical.tolist()) == sorted(together.identical.tolist())


def test_nothing() -> None:
    found = find_similar(np.zeros(0, vector_record(4)), 0.9)
    assert (found.identical.shape, found.pairs.shape, found.cosines.shape) == ((0, 2), (0, 2), (0,))


@pytest.mark.parametrize(("cells", "probes", "threshold"), [(1, 1, 0.7), (12, 2, 0.7)])
def test_real_vectors(
    shared_data: Path, real_personas: Callable[[int], list[str]], cells: int, probes: int, threshold: float
) -> None:
    """In cells around some of them: pairs of which one's home is among the other's cells, by the exact cosine."""
    texts = real_personas(1_000)
    stored = np.load(shared_data / "personas" / "personahub_minilm.f16.npy", mmap_mode="r")[: len(texts)]
    vectors = np.array(stored, np.float32)
    chosen = assign_cells(vectors, vectors[:: len(vectors) // cells][:cells].copy(), probes)
    records = np.zeros(chosen.size, vector_record(vectors.shape[1]))
    records["cell"], records["row"] = chosen.ravel(), np.repeat(np.arange(len(texts)), probes)
    records["text"] = np.repeat([texts.index(text) for text in texts], probes)
    records["vector"], records["flags"][::probes] = np.repeat(stored, probes, axis=0), IS_HOME
    found = find_similar(records[np.random.default_rng(2).permutation(len(records))], threshold)
    expected = {}
    for a in range(len(texts)):
        cosines = exact_cosines(np.broadcast_to(vectors[a], (len(texts), vectors.shape[1]))[a:], vectors[a:])
        for b in np.flatnonzero(cosines >= threshold).tolist():
            if (b := b + a) > a and texts[a] != texts[b] and (chosen[a, 0] in chosen[b] or chosen[b, 0] in chosen[a]):
                expected[a, b] = cosines[b - a]
    assert dict(zip(map(tuple, found.pairs.tolist()), found.cosines.tolist(), strict=True)) == expected
    assert len(expected) > 60


def test_cosines_at_the_threshold_itself() -> None:
    """Single precision decides no pair: of cosines a hair around the threshold those at or above it are found."""
    rng = np.random.default_rng(4)
    base = rng.normal(0, 1, 384)
    base /= np.linalg.norm(base)
    noise = rng.normal(0, 1, (400, 384))
    noise -= (noise @ base)[:, None] * base
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    wanted = 0.9 + np.linspace(-3e-4, 3e-4, 400)[:, None]
    halves = np.vstack([base, wanted * base + np.sqrt(1 - wanted**2) * noise]).astype(np.float16)
    records = np.zeros(401, vector_record(384))
    records["row"] = records["text"] = np.arange(401)
    records["vector"], records["flags"] = halves, IS_HOME
    vectors = halves.astype(np.float64)
    exact = vectors[1:] @ vectors[0] / np.linalg.norm(vectors[1:], axis=1) / np.linalg.norm(vectors[0])
    for threshold in (0.9, float(np.sort(exact.round(9))[200])):
        pairs = find_similar(records, threshold).pairs
        assert pairs[pairs[:, 0] == 0][:, 1].tolist() == (np.flatnonzero(exact.round(9) >= threshold) + 1).tolist()


def test_a_million_rows_of_one_text_cost_a_million() -> None:
    records = np.zeros(1_000_002, vector_record(4))
    records["row"] = np.random.default_rng(1).permutation(len(records))
    records["flags"], records["vector"] = IS_HOME, [1, 0, 0, 0]
    records["text"][:2], records["vector"][1] = [7, 8], [0, 1, 0, 0]
    started = time.process_time()
    found = find_similar(records, 0.9)
    assert len(found.identical) == 999_999 and (found.identical[:, 0] == records["row"][2:].min()).all()
    assert found.pairs.tolist() == [sorted([int(records["row"][0]), int(records["row"][2:].min())])]
    assert time.process_time() - started < 20


@pytest.mark.parametrize("threshold", [0.75, 0.9])
def test_short_vectors_lose_no_pair(shared_data: Path, threshold: float) -> None:
    """Of so many real vectors only the products along their principal axes are computed, of others all."""
    stored = np.load(shared_data / "personas" / "personahub_minilm.f16.npy", mmap_mode="r")[:6_000]
    axes = cell_pairs._find_axes(stored, threshold)
    assert axes is not None and axes.shape[1] < 192
    along = axes.T @ axes
    assert np.abs(along - np.eye(len(along))).max() < 1e-5
    records = np.zeros(len(stored), vector_record(stored.shape[1]))
    records["row"] = records["text"] = np.arange(len(stored))
    records["vector"], records["flags"] = stored, IS_HOME
    found = find_similar(records, threshold)
    vectors = np.array(stored, np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b = np.nonzero(np.triu((vectors @ vectors.T).round(9) >= threshold, 1))
    assert len(a) > 50 and found.pairs.tolist() == np.stack([a, b], axis=1).tolist()
    every_way = np.random.default_rng(3).normal(0, 1, (6_000, 384)).astype(np.float16)
    assert cell_pairs._find_axes(every_way, threshold) is None
