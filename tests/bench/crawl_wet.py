"""WET records → rows with key, text and language: ours out of Spark's workers beside bare loops, two cores each."""

from __future__ import annotations

from pathlib import Path

from bench_tools import Figure
from crawl_corpus import find_wet, write_repeats
from crawl_turns import take_turns, tell_costs

FILES, REPEATED = 8, 20
LOOPS = ("fastwarc_detect", "warcio_detect", "warcio_rows")


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real number of records, and of turns."""
    times = max(1, round(REPEATED * size))

    def write_file(path: Path, number: int) -> int:
        return write_repeats(find_wet(), path, times if number < FILES else 1)

    costs, jvm = take_turns(write_file, ".warc.wet.gz", FILES, size, LOOPS)
    ours, bare, rows = costs["language"], costs["fastwarc_detect"], costs["warcio_rows"]
    return [
        Figure("rows with key, text and language ÷ bare fastwarc + detect_fast, by CPU", bare.cpu / ours.cpu, goal=0.6),
        Figure("the same by wall time of two cores", bare.core / ours.core, goal=0.6),
        Figure("the same ÷ warcio loop as in cc-pyspark, rows to Parquet, by CPU", rows.cpu / ours.cpu, goal=1.5),
        Figure("the same by wall time of two cores", rows.core / ours.core, goal=1.5),
        *tell_costs(
            costs,
            {
                "language": "ours, without rules",
                "rules": "ours, with all page rules",
                "fastwarc_detect": "fastwarc + detect_fast, nothing kept",
                "warcio_detect": "warcio + detect_fast, nothing kept",
                "warcio_rows": "warcio loop, rows to Parquet",
            },
        ),
        Figure("ours, without rules: CPU of the JVM beside it, a record", jvm, "ms"),
    ]
