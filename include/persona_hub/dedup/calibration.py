"""Which cosine means the same text to people: each threshold against scored pairs, and pairs to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.errors import SettingsError

THRESHOLDS = tuple(round(0.5 + step / 100, 2) for step in range(50))  # 0.50 … 0.99
STEPS = tuple(round(0.8 + step / 50, 2) for step in range(10))  # 0.80 … 0.98: where each step of pairs to look at begins
STEP = 0.02
WANTED_PRECISION = 0.9

_BLOCK_ROWS = 512


class Threshold(NamedTuple):
    """What a threshold says "same" to, against what people say. Precision is NaN where it finds none."""

    cosine: float
    found: int
    precision: float
    recall: float
    f1: float


class NearPairs(NamedTuple):
    """Pairs of one step of cosines: how many there are, and a few of them at random."""

    begin: float
    found: int
    rows: NDArray[np.int64]  # (k, 2), the first below the second
    cosines: NDArray[np.float64]  # (k,)


def judge_thresholds(cosines: NDArray[np.float64], same: NDArray[np.bool_]) -> list[Threshold]:
    """Precision, recall and F1 of `cosine >= threshold` for the pairs that people call the same.

    Raises:
        SettingsError: all pairs are the same to people, or none is.
    """
    if same.all() or not same.any():
        raise SettingsError(
            f"{same.sum()} of {len(same)} pairs have the same meaning by their scores",
            wanted="some that have, some that have not",
            cure="give --same, the score from which two texts mean the same",
        )
    judged = []
    for threshold in THRESHOLDS:
        found = cosines >= threshold
        right, all_found = int((found & same).sum()), int(found.sum())
        precision, recall = right / all_found if all_found else math.nan, right / int(same.sum())
        judged.append(Threshold(threshold, all_found, precision, recall, 2 * right / (all_found + int(same.sum()))))
    return judged


def choose_best(judged: Sequence[Threshold]) -> Threshold:
    """The one of highest F1; of equals the highest."""
    return max(judged, key=lambda row: (row.f1, row.cosine))


def choose_precise(judged: Sequence[Threshold], wanted: float = WANTED_PRECISION) -> Threshold | None:
    """The lowest one from which on up precision is as wanted; None if there is none."""
    lowest = None
    for row in sorted(judged, reverse=True):
        if row.found and row.precision < wanted:
            break
        lowest = row if row.found else lowest
    return lowest


def correlate_ranks(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's correlation: Pearson's, of ranks; equals share the mean of theirs. NaN if all of one are equal."""
    ranks = list[NDArray[np.float64]]()
    for values in (one, other):
        _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((counts.cumsum() - (counts - 1) / 2)[places])
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def find_near_pairs(vectors: NDArray[np.float32], at_most: int, seed: int = 0) -> list[NearPairs]:
    """Pairs at each of STEPS, found by comparing all with all, block by block.

    Args:
        vectors: (n, d) of length 1, at most some ten thousand.
        at_most: pairs to look at of each step, drawn at random.
    """
    rng = np.random.default_rng(seed)
    counts = [0] * len(STEPS)
    # Of each step the pairs that drew the lowest numbers: draw, row, other row, cosine.
    drawn = [np.empty((0, 4)) for _ in STEPS]
    for start in range(0, len(vectors), _BLOCK_ROWS):
        products = vectors[start : start + _BLOCK_ROWS] @ vectors[start:].T
        above = np.arange(products.shape[1]) > np.arange(len(products))[:, None]
        steps = np.floor((products.astype(np.float64) - STEPS[0]) / STEP + 1e-6).astype(np.int64)
        for step in range(len(STEPS)):
            last = step == len(STEPS) - 1
            rows, others = np.nonzero(((steps >= step) if last else (steps == step)) & above)
            counts[step] += len(rows)
            made = np.column_stack([rng.random(len(rows)), rows + start, others + start, products[rows, others]])
            both = np.concatenate([drawn[step], made])
            drawn[step] = both[np.argsort(both[:, 0], kind="stable")[:at_most]]
    return [
        NearPairs(begin, count, pairs[:, 1:3].astype(np.int64), pairs[:, 3])
        for begin, count, pairs in zip(STEPS, counts, drawn, strict=True)
    ]
