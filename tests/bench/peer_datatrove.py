"""datatrove over crawl files: `peer_datatrove.py OUT WARM_FOLDER FOLDER`, JSON on stdout; see crawl_whole.py.

The order and the options of its own examples/fineweb.py, without URL and language filters. English words and sentences
come from spacy.blank("en"), so nothing is fetched. WARM_FOLDER is read before it says `ready`: imports and the making
of the tokenizer are not counted. Its extractor runs in a process of its own, whose CPU time is counted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import trafilatura  # noqa: F401  # before the extractor's processes are forked, so that none of them imports it
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import ParquetWriter

COUNTS: Counter[str] = Counter()


class Count:
    """A step that counts what passes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, data: Iterable[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for document in data:
            COUNTS[self.name] += 1
            yield document


def read_folder(folder: str, out: Path) -> None:
    extract = [] if any(Path(folder).glob("*.wet.gz")) else [Trafilatura(favour_precision=True)]
    steps = [
        WarcReader(folder, glob_pattern="*.gz"),
        Count("records"),
        *extract,
        Count("with_text"),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        Count("kept"),
        ParquetWriter(str(out / "pages")),
    ]
    LocalPipelineExecutor(steps, tasks=1, logging_dir=str(out / "logs"), skip_completed=False).run()


def find_cpu_s() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main(out: str, warm_folder: str, folder: str) -> None:
    read_folder(warm_folder, Path(out))
    COUNTS.clear()
    print("ready", flush=True)
    sys.stdin.readline()
    begun, cpu = time.monotonic(), find_cpu_s()
    read_folder(folder, Path(out))
    measured = {"cpu_s": find_cpu_s() - cpu, "wall_s": time.monotonic() - begun}
    print(json.dumps(measured | COUNTS), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
