"""The command line that the benches share: which parts, how large, and where the figures go."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDERS = [str(Path(__file__).resolve().parents[1] / name) for name in ("fixtures", "bench")]


def run_parts(
    family: str, parts: Sequence[str], says: str | None, files: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Measures the parts that the command line names, all of them without one; part `x` is the module <family>_x.

    Args:
        family: of the benches, as in `crawl`.
        parts: in the order in which they run.
        says: the text of --help.
        files: by part, options that take a file and are given to its `measure` by their names; to each its help.
    """
    parser = argparse.ArgumentParser(description=says, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=list(parts), metavar="part")
    parser.add_argument("--size", type=float, default=1.0, help="share of the real sizes, to try whether it runs")
    for options in (files or {}).values():
        for name, text in options.items():
            parser.add_argument(f"--{name}", type=Path, help=text)
    parser.add_argument("--out", type=Path, help="JSON file of the figures; other parts' stay in it")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # ends what was started, too
    sys.path[:0] = FOLDERS
    os.environ["PYTHONPATH"] = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
    from bench_tools import print_table, write_figures

    for part in arguments.parts:
        extra = {name: getattr(arguments, name) for name in (files or {}).get(part, {})}
        figures = importlib.import_module(f"{family}_{part}").measure(arguments.size, **extra)
        print_table(part, figures)
        if arguments.out:
            write_figures(arguments.out, {part: figures})
