"""Cosine >= 0.9 among a million vectors of 384 dimensions: ours beside faiss at the same recall.

Ours is a whole process, as in dedup_words.py: cells are trained, vectors assigned and coded, pairs found, verified and
resolved; removals and signatures are written. faiss finds pairs, and no more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bench_tools import Figure
from dedup_corpus import STORED
from dedup_runs import Hub, PeerRun, install_peers, make_home, run_peer
from dedup_vector_corpus import VectorCorpus, choose_queries
from dedup_words import tell_ours

ROWS, NEW_ROWS = 1_000_000, 10_000
PEAK_MB = 6_000
THRESHOLD = 0.9


def measure(size: float) -> list[Figure]:
    """Args: size: share of the rows."""
    corpus = VectorCorpus(round(ROWS * size), 0)
    truth = corpus.find_truth(choose_queries(0, corpus.rows))
    with make_home() as folder:
        hub = open_hub(corpus, Path(folder, "hub"))
        hub.drive("embed", STORED)
        run = hub.compare(STORED)
        hub.drive("pairs", STORED)
        recall = float(hub.read_pairs().find(truth, corpus.rows).mean())
        wrong = count_wrong(corpus, hub)
        wanted = Path(folder, "truth.npy")
        np.save(wanted, truth)
        peer = run_peer(install_peers(), "peer_faiss.py", corpus.vectors, wanted, recall)
    return [
        Figure(f"{corpus.rows:,} vectors: ours ÷ faiss", run.wall_s / peer.seconds, goal=0.4, at_most=True),
        Figure(f"ours: recall, of {len(truth):,} pairs by brute force", recall, goal=0.99),
        *tell_ours("ours", [run], PEAK_MB),
        Figure("ours: seconds of vectors looked up and cells trained", run.said["prepare_s"], "s"),
        Figure("ours: seconds of the rest", run.said["compare_s"], "s"),
        Figure("ours: rows removed", run.said["removed"]),
        Figure("ours: rows removed that are not like their survivor, or whose survivor is gone", wrong, goal=0, at_most=True),
        *tell_faiss(peer),
    ]


def open_hub(corpus: VectorCorpus, home: Path) -> Hub:
    return Hub(home, corpus.table, "vectors", {"PERSONA_HUB_DEDUP__COSINE": str(THRESHOLD)})


def count_wrong(corpus: VectorCorpus, hub: Hub, slice_key: str = STORED) -> int:
    rows, survivors, told = hub.read_removals(slice_key)
    cosines = corpus.read_cosines(rows, survivors)
    # Computed by another way than ours, so by a few units of double precision otherwise.
    unlike = (cosines < THRESHOLD - 1e-8) | (np.abs(cosines - told) > 1e-8)
    return int((unlike | np.isin(survivors, rows)).sum())


def tell_faiss(run: PeerRun) -> list[Figure]:
    names = {"seconds": "seconds in all", "train_s": "of them training", "add_s": "adding", "search_s": "searching"}
    figures = [Figure(f"faiss: {text}", run.said[name], "s") for name, text in names.items()]
    figures += [Figure(f"faiss: {name}", run.said[name]) for name in ("recall", "nprobe", "lists")]
    return [*figures, Figure("faiss: peak memory", run.peak_mb, "MB"), Figure("faiss: pairs", len(run.out))]
