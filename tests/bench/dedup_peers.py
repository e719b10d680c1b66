"""100,000 personas by five programs: seconds, and what each one's list of kept rows is worth against the exact truth.

All compare word sets at Jaccard 0.9 by 128 hash values and 16 bands of 8, but ours, which is exact. A removed persona
that is like no kept one is lost; two kept ones that are like one another are a duplicate that stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bench_tools import Figure
from dedup_corpus import STORED, Corpus, make_corpus
from dedup_runs import Hub, install_peers, make_home, run_peer
from dedup_truth import Truth, find_truth, judge_kept
from dedup_words import tell_ours, tell_verdict

ROWS = 100_000
PEERS = {
    "rensa": "peer_rensa.py",
    "datasketch": "peer_datasketch.py",
    "datatrove": "peer_datatrove_dedup.py",
    "text-dedup": "peer_text_dedup.py",
}


def measure(size: float) -> list[Figure]:
    """Args: size: share of the rows."""
    corpus = make_corpus(round(ROWS * size))
    truth, python = find_truth(corpus), install_peers()
    figures = [Figure("pairs of Jaccard 0.9 and more", len(truth.pairs)), Figure("personas", truth.rows)]
    figures += measure_ours(corpus, truth)
    for name, script in PEERS.items():
        run = run_peer(python, script, *corpus.lines)
        figures += [Figure(f"{name}: seconds", run.seconds, "s"), Figure(f"{name}: peak memory", run.peak_mb, "MB")]
        figures += tell_verdict(name, judge_kept(truth, run.out))
    return figures


def measure_ours(corpus: Corpus, truth: Truth) -> list[Figure]:
    with make_home() as folder:
        hub = Hub(Path(folder), corpus.table, "words")
        run = hub.compare(STORED)
        removed, _, _ = hub.read_removals(STORED)
    verdict = judge_kept(truth, np.setdiff1d(np.arange(truth.rows), removed))
    return [*tell_ours("ours", [run]), *tell_verdict("ours", verdict)]
