"""The jobs one after the other over the sample crawl, against a server that answers as a model might; then all again."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from deltalake import DeltaTable

from local.mirror import PAGES as SAMPLE_PAGES
from local.mirror import build_mirror, read_sample_page
from persona_hub.crawl.files import make_access
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.source import find_snapshots
from persona_hub.spark.job import Job
from persona_hub.synthesis.export import export_samples
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.counts import fold_counts, latest_counts
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.model import Table
from persona_hub.tables.silver import CANDIDATES, COMPLETIONS, QUESTIONS, REMOVALS, SURVIVORS

SLICE = "CC-MAIN-2026-45/00001"
PERSONA_JOBS = ("ingest_pages", "extract_candidates", "deduplicate_personas", "publish_personas")
TYPE = "math"  # one of six: the others differ in prompt and rules, which have tests of their own
PERSONAS_PER_TYPE = 5
WHO = ("baker", "nurse", "sailor", "judge", "pilot", "gardener", "teacher", "plumber", "violinist", "chemist", "farmer")
WHAT = ("fair prices", "old maps", "night trains", "clean rivers", "rare stamps", "school lunches", "chess openings")


def pick(text: str, words: tuple[str, ...], salt: str) -> str:
    return words[int(hashlib.md5((salt + text).encode()).hexdigest(), 16) % len(words)]


def answer_as_persona(asked: str) -> str:
    """One persona of a few per page, so that some are the same; one page of nine gets none."""
    if int(hashlib.md5(asked.encode()).hexdigest(), 16) % 9 == 0:
        return "I'm sorry, but I cannot help with that."
    return f"A {pick(asked, WHO, '1')} who cares about {pick(asked, WHAT, '2')} and writes about them every day"


def answer_as_math(asked: str) -> str:
    number = int(hashlib.md5(asked.encode()).hexdigest(), 16) % 900
    text = f"Somebody sells {number} loaves on Monday and {number + 7} on Tuesday. How many loaves are that in both days?"
    return text if number % 4 else f"{text} Solution: {2 * number + 7}."


@dataclass
class State:
    """What a run leaves, for the next one to be compared with."""

    gold: dict[str, list[dict[str, Any]]]
    version: int
    exports: dict[str, bytes]


class Chain:
    """All jobs of one slice, in this process, as Airflow would run them."""

    def __init__(
        self,
        make_job: Callable[..., Job],
        load_job_file: Callable[[str], ModuleType],
        model_server: Any,
        reply: Callable[[str], Any],
    ) -> None:
        self._make_job, self._load, self._server, self._reply = make_job, load_job_file, model_server, reply
        settings = {"crawl__files_per_slice": 2, "synthesis__personas_per_type": PERSONAS_PER_TYPE}
        model = {"llm__base_url": model_server.url, "llm__model": "served-model", "llm__max_attempts": 1}
        self.settings = settings | model
        self.lake = make_job(SLICE).lake

    def run(self, run_id: str) -> State:
        for name in PERSONA_JOBS:
            self._start(name, run_id, "", answer_as_persona)
        job = self._start("synthesize_samples", run_id, TYPE, answer_as_math)
        exports = {file.name: file.read_bytes() for file in export_samples(job.settings, SLICE, TYPE).iterdir()}
        gold = {table.name: self.read(table) for table in (PERSONAS, task_table(TYPE))}
        return State(gold, DeltaTable(PERSONAS.path(self.lake)).version(), exports)

    def _start(self, name: str, run_id: str, data_type: str, answer: Callable[[str], str]) -> Job:
        self._server.decide = lambda asked: self._reply(answer(asked["messages"][-1]["content"]))
        job = self._make_job(SLICE, data_type, run_id, **self.settings)
        getattr(self._load(name), name)(job)
        return job

    def read(self, table: Table, **where: str) -> list[dict[str, Any]]:
        rows = DeltaTable(table.path(self.lake)).to_pyarrow_table().to_pylist()
        rows = [row for row in rows if all(row[name] == value for name, value in where.items())]
        return sorted(rows, key=lambda row: tuple(str(row[name]) for name in table.key))

    def read_funnel(self, run_id: str) -> dict[tuple[str, str], dict[str, Any]]:
        rows = [row for row in fold_counts(self.lake) if row["run_id"] == run_id]
        return {(row["stage"], row["data_type"]): row for row in latest_counts(rows, SLICE)}


@pytest.fixture
def mirror(tmp_path: Path, make_settings) -> Path:
    folder = tmp_path / "mirror"
    build_mirror(SAMPLE_PAGES, folder)
    settings = make_settings()
    [listing] = find_snapshots(str(folder), make_access(settings))
    add_snapshot(settings.lake, settings.calendar, listing, 2, datetime(2026, 11, 20, tzinfo=UTC))
    return folder


def test_the_whole_way_twice(make_job, load_job_file, model_server, answer, chat, mirror: Path) -> None:
    chain = Chain(make_job, load_job_file, model_server, lambda text: answer(chat(text)))
    first = chain.run("run 1")
    check_funnel(chain)
    check_lineage(chain, first, mirror)

    asked = len(model_server.asked)
    assert asked == len(chain.read(COMPLETIONS)) > 40
    second = chain.run("run 2")
    assert len(model_server.asked) == asked
    assert second.gold == first.gold
    feed = make_job(SLICE).spark.read.format("delta").option("readChangeFeed", "true")
    assert second.version == first.version or (
        feed.option("startingVersion", first.version + 1).load(PERSONAS.path(chain.lake)).count() == 0
    )
    assert set(first.exports) == set(second.exports) == {"manifest.json", "samples.jsonl", "samples.parquet"}
    for name in ("samples.jsonl", "samples.parquet"):  # the manifest names the tables' versions, which may go on
        assert second.exports[name] == first.exports[name]
    check_second_funnel(chain)


def check_funnel(chain: Chain) -> None:
    """What comes out of a stage goes into the next; what does not, is kept with the reason that is counted."""
    funnel = chain.read_funnel("run 1")
    stages = ["ingest_pages", "extract_candidates", "dedup_words", "dedup_embeddings", "check_personas", "publish_personas"]
    assert [stage for stage, data_type in funnel if not data_type] == stages
    assert [key for key in funnel if key[1]] == [("synthesize_samples", TYPE), ("publish_samples", TYPE)]
    rows_in = len(list(SAMPLE_PAGES.glob("*.txt")))
    for stage in stages:
        row = funnel[stage, ""]
        assert row["rows_in"] == rows_in, stage
        assert row["rows_in"] == row["rows_out"] + sum(row["removed"].values())
        rows_in = row["rows_out"]
    asked, published = funnel["synthesize_samples", TYPE], funnel["publish_samples", TYPE]
    assert asked["rows_in"] == asked["rows_out"] == published["rows_in"] == PERSONAS_PER_TYPE
    assert published["rows_out"] == len(chain.read(task_table(TYPE)))

    tables = {"ingest_pages": PAGES, "extract_candidates": CANDIDATES, "dedup_embeddings": SURVIVORS, "publish_personas": PERSONAS}
    assert {stage: funnel[stage, ""]["rows_out"] for stage in tables} == {
        stage: len(chain.read(table)) for stage, table in tables.items()
    }
    for (stage, data_type), row in funnel.items():
        counted: dict[str, int] = {}
        for removal in chain.read(REMOVALS, stage=stage, data_type=data_type):
            counted[removal["rule"]] = counted.get(removal["rule"], 0) + 1
        assert counted == row["removed"], stage
    assert funnel["extract_candidates", ""]["removed"]["refusal"] > 0
    assert funnel["ingest_pages", ""]["removed"] == {"copy": 3, "navigation": 1, "too_short": 1}
    assert funnel["dedup_words", ""]["removed"]["similar_words"] > 0
    # Each question is one row, and one call if nobody asked it before.
    questions = chain.read(QUESTIONS, stage="extract_candidates")
    extract = funnel["extract_candidates", ""]
    assert extract["rows_in"] == len(questions) == extract["calls"] == len({row["completion_key"] for row in questions})
    assert (extract["from_ledger"], extract["prompt_tokens"], extract["money"]) == (0, 11 * extract["calls"], None)
    assert funnel["ingest_pages", ""]["events"] == {
        "files_read": 2, "digests_verified": 52, "records_conversion": 52, "records_warcinfo": 2,
    }  # fmt: skip


def check_lineage(chain: Chain, state: State, mirror: Path) -> None:
    """Each sample to its persona, to its page, to the bytes of the crawl file, to the page as somebody wrote it."""
    written = {page.url: page.text for page in map(read_sample_page, SAMPLE_PAGES.glob("*.txt"))}
    pages = {row["page_id"]: row for row in chain.read(PAGES)}
    personas = {row["persona_id"]: row for row in state.gold["gold.personas"]}
    answers = {row["completion_key"]: row["text"] for row in chain.read(COMPLETIONS)}
    assert len(personas) > 20
    for persona in personas.values():
        page = pages[persona["page_id"]]
        assert (persona["hop"], persona["parent_id"], persona["publication"]) == (0, None, 1)
        assert persona["url"] == page["url"]
        start, length = page["record_offset"], page["record_length"]
        record = gzip.decompress((mirror / page["file_path"]).read_bytes()[start : start + length]).decode()
        assert f"WARC-Target-URI: {page['url']}\r\n" in record
        assert f"WARC-Record-ID: <{page['record_id']}>\r\n" in record
        assert written[page["url"]].strip() in record
        assert answers[persona["completion_key"]] == persona["persona"]
    samples = state.gold[f"gold.task_{TYPE}"]
    assert 0 < len(samples) <= PERSONAS_PER_TYPE
    for sample in samples:
        assert sample["persona"] == personas[sample["persona_id"]]["persona"]
        assert sample["sample_id"] == f"{sample['persona_id']}/{TYPE}/s0"
        assert sample["text"] == answers[sample["completion_key"]]
        assert sample["publication"] == 1
    lines = map(json.loads, state.exports["samples.jsonl"].decode().splitlines())
    assert [line["synthesized text"] for line in lines] == [sample["text"] for sample in samples]


def check_second_funnel(chain: Chain) -> None:
    first, second = chain.read_funnel("run 1"), chain.read_funnel("run 2")
    assert list(second) == list(first)
    for key, row in second.items():
        before = first[key]
        assert (row["calls"], row["prompt_tokens"]) == (0, 0)
        assert row["from_ledger"] == before["calls"] + before["from_ledger"]
        assert [row[name] for name in ("rows_in", "rows_out", "removed", "events")] == [
            before[name] for name in ("rows_in", "rows_out", "removed", "events")
        ], key
