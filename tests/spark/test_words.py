"""Pairs by word sets: MinHash candidates, verified, against all pairs by brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
from pyspark.sql import DataFrame, SparkSession

from persona_hub.core.words import jaccard, word_set
from persona_hub.spark.words import find_word_pairs

ODD = ["", "!!! ...", "🥖", "用电脑写程序的面包师傅", "用电脑写程序的面包师傅。", "one", "ONE!", "नमस्ते दुनिया", "नमस्ते दुनिया।"]
SCHEMA = "row_id STRING, text STRING"


def find_by_brute_force(texts: dict[str, str], new: set[str], threshold: float) -> dict[tuple[str, str], float]:
    sets = {row: word_set(text) for row, text in texts.items()}
    found = {}
    for a, b in combinations(sorted(texts), 2):
        if (a in new or b in new) and (similarity := jaccard(sets[a], sets[b])) >= threshold:
            found[a, b] = similarity
    return found


def collect(pairs: DataFrame) -> dict[tuple[str, str], float]:
    rows = pairs.collect()
    found = {(min(row["a"], row["b"]), max(row["a"], row["b"])): row["similarity"] for row in rows}
    assert len(found) == len(rows)  # no pair twice
    return found


@pytest.mark.parametrize("threshold", [0.9, 0.6])
def test_all_pairs_and_no_other(
    spark: SparkSession,
    real_personas: Callable[[int], list[str]],
    make_copies: Callable[[list[str], int, int], list[str]],
    threshold: float,
) -> None:
    real = real_personas(1_500)
    texts = {f"{place:04}": text for place, text in enumerate([*real, *make_copies(real, 300, 7), *ODD])}
    new = {row for place, row in enumerate(texts) if place % 3}  # copies and originals on both sides
    frames = [
        spark.createDataFrame([(row, text) for row, text in texts.items() if (row in new) == side], SCHEMA)
        for side in (True, False)
    ]
    expected = find_by_brute_force(texts, new, threshold)
    assert len(expected) > 150
    assert collect(find_word_pairs(*frames, threshold)) == pytest.approx(expected)


def test_no_rows_are_no_pairs(spark: SparkSession) -> None:
    none, some = spark.createDataFrame([], SCHEMA), spark.createDataFrame([("a", "one two"), ("b", "two one")], SCHEMA)
    assert collect(find_word_pairs(none, some, 0.9)) == {}
    assert collect(find_word_pairs(some, none, 0.9)) == {("a", "b"): 1.0}
    assert collect(find_word_pairs(none, none, 0.9)) == {}
