"""Benches of the model calls against the loopback endpoint: `python tests/bench/calls.py [part ...]`.

    process   one process through the openai package
    limits    limits that processes share, fixed and found out
    stage     the whole stage in Spark, and what spooling costs
    start     the start of a stage whose questions are all answered, in a ledger of five million
    peers     bespokelabs-curator and the OpenAI cookbook's parallel processor beside ours

Ratios are what counts: run it on a machine that does nothing else. Without a part it runs all of them (half an hour).
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

PARTS = ("process", "limits", "stage", "start", "peers")
FOLDERS = [str(Path(__file__).resolve().parents[1] / name) for name in ("fixtures", "bench")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS), metavar="part")
    parser.add_argument("--size", type=float, default=1.0, help="share of the real sizes, to try whether it runs")
    parser.add_argument("--cookbook", type=Path, help="the cookbook's api_request_parallel_processor.py, for peers")
    parser.add_argument("--out", type=Path, help="JSON file of the figures; other parts' stay in it")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # ends what was started, too
    sys.path[:0] = FOLDERS
    os.environ["PYTHONPATH"] = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
    from bench_tools import print_table, write_figures

    for part in arguments.parts:
        extra = {"cookbook": arguments.cookbook} if part == "peers" else {}
        figures = importlib.import_module(f"calls_{part}").measure(arguments.size, **extra)
        print_table(part, figures)
        if arguments.out:
            write_figures(arguments.out, {part: figures})


if __name__ == "__main__":
    main()
