"""Benches of reading the crawl: `python tests/bench/crawl.py [part ...]`.

    wet       records of WET files → rows with key, text and language, out of Spark's workers
    warc      responses of WARC files → rows with the page's main text, out of Spark's workers
    rules     the page rules on real pages
    whole     crawl file → pages that the rules keep, beside datatrove
    linear    a whole ingest_pages of 1, 4 and 16 files, and of one file of a gigabyte: seconds and memory
    calendar  the timetable's look-up with 120 snapshots, and the planning of a slice out of 100,000 files

They read the real crawl files of the test data (HUB_TEST_DATA). Peers run in an environment of their own, made once in
.hub/bench-peers-crawl. Ratios are what counts: run it on a machine that does nothing else. Without a part it runs all
of them (half an hour).
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

PARTS = ("wet", "warc", "rules", "whole", "linear", "calendar")
FOLDERS = [str(Path(__file__).resolve().parents[1] / name) for name in ("fixtures", "bench")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS), metavar="part")
    parser.add_argument("--size", type=float, default=1.0, help="share of the real sizes, to try whether it runs")
    parser.add_argument("--out", type=Path, help="JSON file of the figures; other parts' stay in it")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # ends what was started, too
    sys.path[:0] = FOLDERS
    os.environ["PYTHONPATH"] = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
    from bench_tools import print_table, write_figures

    for part in arguments.parts:
        figures = importlib.import_module(f"crawl_{part}").measure(arguments.size)
        print_table(part, figures)
        if arguments.out:
            write_figures(arguments.out, {part: figures})


if __name__ == "__main__":
    main()
