"""WARC responses → rows with main text: ours out of Spark's workers beside bare loops, two cores each."""

from __future__ import annotations

from pathlib import Path

from bench_tools import Figure
from crawl_corpus import find_warc, write_share
from crawl_turns import take_turns, tell_costs

FILES = 8
LOOPS = ("fastwarc_main_text", "warcio_main_text")


def measure(size: float) -> list[Figure]:
    """Args: size: share of the 1,400 pages, and of turns."""
    each = max(1, round(1_400 / FILES * size))

    def write_file(path: Path, number: int) -> int:
        return write_share(find_warc(), path, number % FILES, FILES, each if number < FILES else 10)

    costs, jvm = take_turns(write_file, ".warc.gz", FILES, size, LOOPS)
    ours, bare, rows = costs["language"], costs["fastwarc_main_text"], costs["warcio_main_text"]
    return [
        Figure("rows with main text ÷ bare fastwarc + resiliparse, by CPU", bare.cpu / ours.cpu, goal=0.8),
        Figure("the same by wall time of two cores", bare.core / ours.core, goal=0.8),
        Figure("the same ÷ warcio loop with main text and language, rows to Parquet, by CPU", rows.cpu / ours.cpu),
        *tell_costs(
            costs,
            {
                "language": "ours, without rules",
                "rules": "ours, with all page rules",
                "fastwarc_main_text": "fastwarc + main text, nothing kept",
                "warcio_main_text": "warcio loop, main text and language, rows to Parquet",
            },
        ),
        Figure("ours, without rules: CPU of the JVM beside it, a record", jvm, "ms"),
    ]
