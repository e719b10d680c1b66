"""The page rules on the texts of real pages, without the language's detection, beside datatrove's three filters on them.

A record that comes that far: one that is neither empty nor too short, so that rules look into its text. Those that pass
all rules have been looked at by each of them, the dearest included.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

from bench_tools import HERE, Figure
from crawl_corpus import find_warc, find_wet
from crawl_judge import LanguageJudge
from crawl_peers import OFFLINE, install_peers, run_at_once

from persona_hub.core.page_judge import PageJudge, Verdict
from persona_hub.crawl.reading import BATCH_PAGES
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.settings import CrawlSettings

REPEATS = 15
Judge = PageJudge | LanguageJudge


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real pages, and of repetitions."""
    python, settings = install_peers(), CrawlSettings()
    judges = (PageJudge(settings, frozenset()), LanguageJudge(settings, frozenset()))
    figures = []
    for kind, find, pages in (("WET", find_wet, 318), ("WARC", find_warc, 1_400)):
        texts, urls = read_texts(find(), max(1, round(pages * size)))
        verdicts = judge_all(judges[0], texts, urls)
        far = [place for place, verdict in enumerate(verdicts) if verdict.language]
        kept = [place for place, verdict in enumerate(verdicts) if not verdict.refusal]
        for what, places in (("that come that far", far), ("that pass all rules", kept)):
            chosen = [texts[place] for place in places], [urls[place] for place in places]
            spent = take_turns(judges, *chosen, max(1, round(REPEATS * size)))
            name = f"rules, {len(places)} {kind} pages {what}"
            figures.append(Figure(f"{name}: CPU of a page", spent, "ms", goal=0.3, at_most=True))
        peer = measure_peer(python, [texts[place] for place in far])
        figures.append(Figure(f"datatrove's three filters, {len(far)} {kind} pages that come that far", peer, "ms"))
        figures.append(Figure(f"{kind} pages kept of {len(texts)}", len(kept)))
    return figures


def read_texts(path: Path, most: int) -> tuple[list[str], list[str]]:
    with path.open("rb") as stream:
        pages = [page for page in islice(read_pages(stream, path.name, ReadReport()), most) if not page.refusal]
    if not pages:
        raise RuntimeError(f"no page of {path} has a text")
    return [page.text for page in pages], [page.url for page in pages]


def judge_all(judge: Judge, texts: list[str], urls: list[str]) -> list[Verdict]:
    """In batches, as a worker does."""
    places = range(0, len(texts), BATCH_PAGES)
    batches = (judge.judge(texts[at : at + BATCH_PAGES], urls[at : at + BATCH_PAGES]) for at in places)
    return [verdict for batch in batches for verdict in batch]


def take_turns(judges: tuple[Judge, Judge], texts: list[str], urls: list[str], repeats: int) -> float:
    """Milliseconds of a page: the judge with all rules less the one that only finds the language."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for times, judge in zip(spent, judges, strict=True):
            times.append(clock(lambda judge=judge: judge_all(judge, texts, urls)))
    return 1000 * (median(spent[0]) - median(spent[1])) / max(1, len(texts))


def clock(function: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def measure_peer(python: str, texts: list[str]) -> float:
    """Milliseconds of a page in datatrove's filters, in their process."""
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder, "pages.json")
        pages.write_text(json.dumps(texts))
        [measured] = run_at_once([(python, HERE / "peer_filters.py", pages)], OFFLINE)
    return 1000 * float(measured["cpu_s"]) / max(1, len(texts))
