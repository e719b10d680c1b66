"""10,000 new vectors against a million stored ones, beside the run that deduplicated the million."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
from bench_tools import Figure
from dedup_corpus import NEW, STORED
from dedup_runs import Hub, make_home
from dedup_vector_corpus import VectorCorpus, choose_queries
from dedup_vectors import NEW_ROWS, ROWS, count_wrong, open_hub
from dedup_words import tell_ours

TURNS = 3


def measure(size: float) -> list[Figure]:
    """Args: size: share of the rows, old and new."""
    new = round(NEW_ROWS * size)
    corpus = VectorCorpus(round(ROWS * size) + new, new)
    stored = corpus.rows - new
    with make_home() as folder:
        hub = open_hub(corpus, Path(folder, "hub"))
        hub.drive("embed", STORED)
        full = hub.compare(STORED)
        hub.drive("publish", STORED)
        hub.drive("embed", NEW)
        later = []
        for turn in range(TURNS):
            copy = hub.copy(Path(folder, str(turn)))
            later.append(copy.compare(NEW, stored=True))
        copy.drive("pairs", NEW, stored=True)
        recall, pairs = find_recall(corpus, copy)
        wrong = count_wrong(corpus, copy, NEW)
    ratio = median(run.seconds for run in later) / full.seconds
    return [
        Figure(f"{new:,} new vectors against {stored:,} ÷ the full run, after session start", ratio, goal=0.1, at_most=True),
        Figure(f"recall, of {pairs:,} pairs by brute force", recall, goal=0.99),
        *tell_ours("the full run", [full]),
        *tell_ours("the new ones", later),
        Figure("new ones removed", later[-1].said["removed"]),
        Figure("of them not like their survivor, or with one that is gone", wrong, goal=0, at_most=True),
    ]


def find_recall(corpus: VectorCorpus, hub: Hub) -> tuple[float, int]:
    """Of pairs of new rows with each other and with what the first run kept."""
    stored = corpus.rows - corpus.new
    truth = corpus.find_truth(choose_queries(stored, corpus.rows))
    gone, _, _ = hub.read_removals(STORED)
    truth = truth[~np.isin(truth[:, 1], gone)]
    return float(hub.read_pairs().find(truth, corpus.rows).mean()), len(truth)
