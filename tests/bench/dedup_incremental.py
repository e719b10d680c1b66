"""10,000 new personas against a million stored ones, beside the run that deduplicated the million."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
from bench_tools import Figure
from dedup_corpus import NEW, STORED, make_corpus
from dedup_runs import Hub, make_home
from dedup_truth import find_truth
from dedup_words import tell_ours

STORED_ROWS, NEW_ROWS, TURNS = 1_000_000, 10_000, 3


def measure(size: float) -> list[Figure]:
    """Args: size: share of the rows, old and new."""
    new = round(NEW_ROWS * size)
    corpus = make_corpus(round(STORED_ROWS * size) + new, new)
    truth, full, later = find_truth(corpus), [], []
    with make_home() as folder:
        for turn in range(TURNS):
            hub = Hub(Path(folder, f"full-{turn}"), corpus.table, "words")
            full.append(hub.compare(STORED))
        hub.drive("publish", STORED)
        for turn in range(TURNS):
            copy = hub.copy(Path(folder, f"later-{turn}"))
            later.append(copy.compare(NEW, stored=True))
        removed = np.concatenate([copy.read_removals(slice_key)[0] for slice_key in (STORED, NEW)])
    ratio = median(run.wall_s for run in later) / median(run.wall_s for run in full)
    return [
        Figure(f"{new:,} new against {corpus.rows - new:,} stored ÷ the full run", ratio, goal=0.4, at_most=True),
        *tell_ours("the full run", full),
        *tell_ours("the new ones", later),
        Figure("new ones removed", later[-1].said["removed"]),
        Figure(
            "personas removed that one run over all would have kept, or the reverse",
            len(np.setxor1d(removed, truth.removed)),
            goal=0,
            at_most=True,
        ),
    ]
