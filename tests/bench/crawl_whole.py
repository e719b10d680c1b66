"""Crawl file → pages that the rules keep, as Parquet: ours beside datatrove, one process each, by turns.

datatrove reads with WarcReader, takes the main text of HTML with Trafilatura (in a process of its own, as it comes), and
applies GopherRepetitionFilter, GopherQualityFilter and C4QualityFilter, which stand in our rules, too. Ours also finds
the language, verifies digests and keeps a reason for each page that is dropped.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench_tools import HERE, Figure
from crawl_corpus import find_warc, find_wet, write_share
from crawl_peers import OFFLINE, install_peers, run_at_once

REPEATS = 3
KINDS = {"WARC": (find_warc, "pages.warc.gz", 1_400), "WET": (find_wet, "pages.warc.wet.gz", 318)}
WARMING = 20


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real pages, and of turns."""
    python = install_peers()
    return [figure for kind in KINDS for figure in measure_kind(kind, python, size)]


def measure_kind(kind: str, python: str, size: float) -> list[Figure]:
    find, name, pages = KINDS[kind]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        warm, real = Path(folder, "warm", name), Path(folder, "real", name)
        for path, count in ((warm, WARMING), (real, max(1, round(pages * size)))):
            path.parent.mkdir()
            records = write_share(find(), path, 0, pages // count, count)
        for turn in range(max(1, round(REPEATS * size))):
            ours.append(take_turn(sys.executable, "peer_pages.py", Path(folder, f"ours{turn}"), warm, real))
            at = (warm.parent, real.parent)
            theirs.append(take_turn(python, "peer_datatrove.py", Path(folder, f"theirs{turn}"), *at, environment=OFFLINE))
    mine, peer = (median(1000 * turn["cpu_s"] / records for turn in turns) for turns in (ours, theirs))
    waits = median(their["wall_s"] / our["wall_s"] for our, their in zip(ours, theirs, strict=True))
    return [
        Figure(f"{kind}, {records:,} pages: datatrove's CPU ÷ ours", peer / mine, goal=4),
        Figure(f"{kind}: datatrove's wall time ÷ ours, one process each (its extractor has another)", waits, goal=4),
        Figure(f"{kind}, ours: CPU of a record", mine, "ms"),
        Figure(f"{kind}, datatrove: CPU of a record", peer, "ms"),
        Figure(f"{kind}, ours: pages kept", ours[-1]["kept"]),
        Figure(f"{kind}, datatrove: pages that its reader gave", theirs[-1]["records"]),
        Figure(f"{kind}, datatrove: pages with a text", theirs[-1]["with_text"]),
        Figure(f"{kind}, datatrove: pages kept", theirs[-1].get("kept", 0)),
    ]


def take_turn(python: str, script: str, out: Path, *inputs: Path, environment: dict[str, str] | None = None) -> Any:
    out.mkdir()
    return run_at_once([(python, HERE / script, out, *inputs)], environment)[0]
