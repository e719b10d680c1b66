"""A million personas by word sets: ours beside rensa, by turns, both beside the exact truth.

Ours is a whole process: Spark starts, reads a Delta table, writes removals and signatures as Delta. rensa is timed from
reading JSON lines to its list of kept rows; its start and imports are not counted, and it writes nothing.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
from bench_tools import Figure
from dedup_corpus import STORED, make_corpus
from dedup_runs import Hub, OurRun, PeerRun, install_peers, make_home, run_peer
from dedup_truth import Truth, Verdict, find_truth, judge_kept

ROWS, TURNS = 1_000_000, 3
PEAK_MB = 2_500


def measure(size: float) -> list[Figure]:
    """Args: size: share of the rows."""
    return measure_method("exact", size, slower_at_most=0.8, missed_at_most=0)


def measure_method(method: str, size: float, slower_at_most: float, missed_at_most: float) -> list[Figure]:
    """Args: missed_at_most: share of the truth's pairs."""
    corpus, python = make_corpus(round(ROWS * size)), install_peers()
    truth, ours, theirs = find_truth(corpus), [], []
    settings = {"PERSONA_HUB_DEDUP__METHOD": method}
    with make_home() as folder:
        for turn in range(TURNS):
            hub = Hub(Path(folder, str(turn)), corpus.table, "words", settings)
            ours.append(hub.compare(STORED))
            theirs.append(run_peer(python, "peer_rensa.py", *corpus.lines))
        hub.drive("pairs", STORED)
        checked = check_ours(hub, truth, missed_at_most)
    ratio = median(our.wall_s / their.seconds for our, their in zip(ours, theirs, strict=True))
    return [
        Figure(f"{method}, {corpus.rows:,} personas: ours ÷ rensa", ratio, goal=slower_at_most, at_most=True),
        *tell_ours("ours", ours, PEAK_MB),
        *tell_rensa(theirs, truth),
        *checked,
    ]


def tell_ours(name: str, runs: list[OurRun], peak_mb: float | None = None) -> list[Figure]:
    most = max(run.peak_mb for run in runs)
    return [
        Figure(f"{name}: seconds of the whole process", median(run.wall_s for run in runs), "s"),
        Figure(f"{name}: seconds after session start", median(run.seconds for run in runs), "s"),
        Figure(f"{name}: peak memory of all processes", most, "MB", goal=peak_mb, at_most=True),
    ]


def tell_rensa(runs: list[PeerRun], truth: Truth) -> list[Figure]:
    return [
        Figure("rensa: seconds", median(run.seconds for run in runs), "s"),
        Figure("rensa: peak memory", max(run.peak_mb for run in runs), "MB"),
        *tell_verdict("rensa", judge_kept(truth, runs[-1].out)),
    ]


def tell_verdict(name: str, verdict: Verdict) -> list[Figure]:
    return [
        Figure(f"{name}: personas kept", verdict.kept),
        Figure(f"{name}: pairs missed (both kept)", verdict.missed),
        Figure(f"{name}: personas removed that are like no kept one", verdict.wrong),
    ]


def check_ours(hub: Hub, truth: Truth, missed_at_most: float) -> list[Figure]:
    """Ours against the truth, pair by pair and removal by removal. What an exact method may miss is nothing."""
    pairs = hub.read_pairs()
    found, false = pairs.find(truth.pairs, truth.rows), ~truth_has(truth, pairs.near)
    rows, survivors, _ = hub.read_removals(STORED)
    missed = float(1 - found.mean()) if len(found) else 0.0
    wrong_at_most = 0 if missed_at_most == 0 else None  # who stays hangs on a pair that was missed
    others = np.setxor1d(truth.removed, rows)
    same, mine, true = np.intersect1d(rows, truth.removed, return_indices=True)
    elsewhere = int((survivors[mine] != truth.survivors[true]).sum())
    verdict = judge_kept(truth, np.setdiff1d(np.arange(truth.rows), rows))
    return [
        Figure("the truth's pairs", len(found)),
        Figure("ours: share of them missed", missed, goal=missed_at_most, at_most=True),
        Figure("ours: pairs that the truth has not", int(false.sum()), goal=0, at_most=True),
        Figure("ours: personas kept", verdict.kept),
        Figure("ours: pairs missed (both kept)", verdict.missed, goal=wrong_at_most, at_most=True),
        Figure("ours: personas removed that are like no kept one", verdict.wrong, goal=0, at_most=True),
        Figure("ours: personas removed here and kept by the truth, or the reverse", len(others), goal=wrong_at_most, at_most=True),
        Figure(f"ours: other survivors than the truth's, of {len(same):,}", elsewhere, goal=wrong_at_most, at_most=True),
    ]


def truth_has(truth: Truth, pairs: np.ndarray) -> np.ndarray:
    given, known = (np.sort(ends, axis=1) @ np.array([truth.rows, 1]) for ends in (pairs, truth.pairs))
    return np.isin(given, known)
