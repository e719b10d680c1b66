"""Deduplication of real personas with noise: as the rule says, and slice by slice as all at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from persona_hub.core.keys import text_hash
from persona_hub.core.survivors import NOT_YET_PUBLISHED, Removal
from persona_hub.core.words import jaccard, word_set
from persona_hub.errors import LakeError
from persona_hub.settings import DedupSettings
from persona_hub.spark import dedup
from persona_hub.spark.dedup import STEPS, find_removals, make_removal_rows
from persona_hub.spark.job import Job

SCHEMA = "row_id STRING, text STRING, text_hash STRING, publication BIGINT, vector ARRAY<FLOAT>"
SETTINGS = DedupSettings()
Row = tuple[str, str, str, int | None, list[float]]


@pytest.fixture
def noisy_rows(
    real_personas: Callable[[int], list[str]], make_copies: Callable[[list[str], int, int], list[str]]
) -> list[Row]:
    """600 rows: 450 real personas, 150 changed copies of some. Vectors at random, but one of three is near an earlier one's.

    A chain's links are near each other and its ends are not, so the rule has chains to decide.
    """
    real = real_personas(450)
    texts = [*real, *make_copies(real, 150, 3)]
    rng = np.random.default_rng(11)
    rng.shuffle(texts)
    vectors = rng.normal(0, 1, (len(texts), 32))
    for place in range(1, len(texts)):
        if place % 3 == 0:
            vectors[place] = vectors[rng.integers(max(0, place - 12), place)] + rng.normal(0, 0.45, 32)
    vectors = vectors[[texts.index(text) for text in texts]]  # one text has one vector
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        (f"{place:04}", text, text_hash(text), None, vector.astype(np.float32).tolist())
        for place, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]


def remove_by_brute_force(rows: list[Row]) -> dict[str, tuple[str, int, float]]:
    """The rule over all pairs: row → its best survivor of the first step that finds one."""
    vectors = np.array([row[4] for row in rows], np.float32)
    cosines = (vectors @ vectors.T).astype(float)
    similar: dict[tuple[int, int], dict[int, float]] = {}
    sets = [word_set(row[1]) for row in rows]
    for a, b in combinations(range(len(rows)), 2):
        found = {0: jaccard(sets[a], sets[b]), 1: cosines[a, b]}
        if found := {step: value for step, value in found.items() if value >= 0.9}:
            similar[a, b] = similar[b, a] = found
    order = sorted(range(len(rows)), key=lambda i: (rows[i][3] or NOT_YET_PUBLISHED, rows[i][2], rows[i][0]))
    kept: list[int] = []
    removals = {}
    for row in order:
        found_by = [(step, kept.index(other), value) for other in kept for step, value in similar.get((row, other), {}).items()]
        if found_by:
            step, place, value = min(found_by)
            removals[rows[row][0]] = (rows[kept[place]][0], step, value)
        else:
            kept.append(row)
    return removals


def to_dict(removals: list[Removal]) -> dict[str, tuple[str, int, float]]:
    assert len({one.row_id for one in removals}) == len(removals)
    return {one.row_id: (one.survivor_id, one.step, one.similarity) for one in removals}


def make_frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    return spark.createDataFrame(rows, SCHEMA)


def test_as_the_rule_says_over_all_pairs(spark: SparkSession, noisy_rows: list[Row]) -> None:
    expected = remove_by_brute_force(noisy_rows)
    found = to_dict(find_removals(make_frame(spark, noisy_rows), make_frame(spark, []), SETTINGS))
    assert {row: one[:2] for row, one in found.items()} == {row: one[:2] for row, one in expected.items()}
    assert {row: one[2] for row, one in found.items()} == pytest.approx({row: one[2] for row, one in expected.items()})
    steps = [step for _, step, _ in found.values()]
    assert (steps.count(0) > 50, steps.count(1) > 50) == (True, True)


def test_slice_by_slice_is_all_at_once(spark: SparkSession, noisy_rows: list[Row]) -> None:
    # Neighbours are alike, so slices by turns: nearly every pair lies across two of them.
    slices = {number: noisy_rows[number - 1 :: 3] for number in (1, 2, 3)}
    hub: list[Row] = []
    for number, rows in slices.items():
        gone = to_dict(find_removals(make_frame(spark, rows), make_frame(spark, hub), SETTINGS))
        assert set(gone) <= {row[0] for row in rows}
        hub += [(*row[:3], number, row[4]) for row in rows if row[0] not in gone]
    at_once = [(*row[:3], number, row[4]) for number, rows in slices.items() for row in rows]
    removed = remove_by_brute_force(at_once)
    assert {row[0] for row in hub} == {row[0] for row in noisy_rows} - set(removed)


def test_a_slice_again_keeps_what_it_published(spark: SparkSession) -> None:
    here, there = [1.0, 0.0], [0.0, 1.0]
    new = [("a", "one two", "h9", 1, here), ("b", "three four", "h1", None, there), ("c", "five", "h2", None, here)]
    stored = [("x", "one two", "h0", 2, here), ("y", "four three", "h5", 3, there)]
    found = to_dict(find_removals(make_frame(spark, new), make_frame(spark, stored), SETTINGS))
    # a is number 1, older than x. b meets y by its words first. c is like a and x by its vector: a ranks better.
    assert found == {"b": ("y", 0, 1.0), "c": ("a", 1, 1.0)}


def test_nothing_similar_nothing_removed(spark: SparkSession) -> None:
    rows = [("a", "one", "h1", None, [1.0, 0.0]), ("b", "!!!", "h2", None, [0.0, 1.0]), ("c", "???", "h3", None, [-1.0, 0.0])]
    assert find_removals(make_frame(spark, rows), make_frame(spark, []), SETTINGS) == []
    assert find_removals(make_frame(spark, []), make_frame(spark, rows), SETTINGS) == []


def test_too_many_pairs_say_what_to_do(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "MAX_PAIRS", 8)
    same = [(str(place), "one text", f"h{place}", None, [1.0]) for place in range(4)]  # 6 pairs by each step
    with pytest.raises(LakeError, match="More than 8 similar pairs in one slice. To do: make slices smaller"):
        find_removals(make_frame(spark, same), make_frame(spark, []), SETTINGS)


def test_one_text_in_very_many_rows_is_one_comparison(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "MAX_PAIRS", 8)
    rows = [(f"{place:03}", "one text", "h1", None, [1.0, 0.0]) for place in range(200)]
    rows[150] = (*rows[150][:3], 7, rows[150][4])  # published: it stays, though its id is none of the first
    gone = to_dict(find_removals(make_frame(spark, rows), make_frame(spark, []), SETTINGS))
    assert gone == {row[0]: ("150", 0, 1.0) for row in rows if row[0] != "150"}
    # Where the best of them goes, they all go for the same row.
    hub = [("x", "text one", "h0", 3, [0.0, 1.0])]
    new = [(*row[:3], None, row[4]) for row in rows]
    gone = to_dict(find_removals(make_frame(spark, new), make_frame(spark, hub), SETTINGS))
    assert gone == {row[0]: ("x", 0, 1.0) for row in rows}


def test_removals_say_by_what_and_for_whom(make_job: Callable[..., Job]) -> None:
    job = make_job("S/00001", dedup__words=0.8, dedup__cosine=0.7)
    new = make_frame(job.spark, [("a", "text of a", "h", None, [1.0]), ("b", "text of b", "h", None, [1.0])])
    removals = [Removal("a", "x", 0, 0.85), Removal("b", "y", 1, 0.75)]
    rows = {row["row_id"]: row.asDict() for row in make_removal_rows(job, removals, new).collect()}
    shared = {"slice": "S/00001", "data_type": "", "detail": "", "run_id": "run 1"}
    assert rows == {
        "a": shared | {
            "row_id": "a", "stage": STEPS[0], "rule": "similar_words", "text": "text of a", "survivor_id": "x",
            "similarity": 0.85, "threshold": 0.8, "method": "minhash 128, verified by exact jaccard",
        },
        "b": shared | {
            "row_id": "b", "stage": STEPS[1], "rule": "similar_embeddings", "text": "text of b", "survivor_id": "y",
            "similarity": 0.75, "threshold": 0.7, "method": "cosine, brute force",
        },
    }  # fmt: skip
    assert make_removal_rows(job, [], new).count() == 0
