"""Publication: numbers are for ever, a repeat changes nothing, slices side by side share no persona."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from deltalake import DeltaTable

from persona_hub.core.keys import page_id, persona_id, text_hash
from persona_hub.settings import EmbeddingSettings
from persona_hub.spark.job import Job
from persona_hub.spark.tables import read_table, replace_rows
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.model import Table
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.silver import CANDIDATES, REMOVALS, VECTORS
from persona_hub.tables.small import read_rows

A, B = "S/00001", "S/00002"
BAKER, NURSE, SAILOR, JUDGE, PILOT = (
    f"A {who} with a long story" for who in ("baker of bread", "night nurse", "sailor at sea", "strict judge", "test pilot")
)
# Of one story and the next no pair is alike, by words or by these vectors; of BAKED and BAKER the vectors are.
BAKED = "One who bakes bread, with stories to tell"
VECTOR = {text: [float(place == other) for other in range(5)] for place, text in enumerate((BAKER, NURSE, SAILOR, JUDGE, PILOT))}
VECTOR[BAKED] = [0.95, 0.0, 0.0, 0.0, 0.3122499]


class Hub:
    """A lake whose candidates are written by hand; all the rest is made by the real jobs."""

    def __init__(self, make_job: Callable[..., Job], load_job_file: Callable[[str], ModuleType]) -> None:
        self.make_job = make_job
        self.deduplicate_personas = load_job_file("deduplicate_personas").deduplicate_personas
        self.publish_personas = load_job_file("publish_personas").publish_personas
        job = make_job("S/00099")
        self.lake, self.spark = job.lake, job.spark
        # Known texts are not embedded again: so no model is loaded here.
        rows = [
            {"slice": job.slice, "persona_id": f"{job.slice}/x/{n}", "text_hash": text_hash(text),
             "embedding_model": EmbeddingSettings().model, "vector": vector}
            for n, (text, vector) in enumerate(VECTOR.items())
        ]  # fmt: skip
        self.replace(VECTORS, rows, job.slice)

    def replace(self, table: Table, rows: list[dict[str, Any]], slice_key: str) -> None:
        blank = {column.name: None for column in table.columns}
        frame = self.spark.createDataFrame([tuple((blank | row).values()) for row in rows], table.schema)
        replace_rows(frame, self.lake, table, slice=slice_key)

    def write_candidates(self, slice_key: str, *texts: str) -> None:
        pages = [page_id(slice_key, 0, record) for record in range(len(texts))]
        shared = {"slice": slice_key, "completion_key": "0" * 64, "prompt_id": "p", "prompt_hash": "1" * 32, "model": "m"}
        self.replace(
            CANDIDATES,
            [
                {"slice": slice_key, "persona_id": persona_id(page, 0), "page_id": page, "persona": text,
                 "text_hash": text_hash(text)} | shared
                for page, text in zip(pages, texts, strict=True)
            ],
            slice_key,
        )  # fmt: skip
        self.replace(
            PAGES,
            [
                {"slice": slice_key, "page_id": page, "file_base": "b", "file_path": "f", "record_number": record,
                 "record_type": "conversion", "url": f"http://a.example/{record}", "domain": "a.example", "text": "t", "truncated": False, "text_hash": "0" * 32}
                for record, page in enumerate(pages)
            ],
            slice_key,
        )  # fmt: skip

    def deduplicate(self, slice_key: str) -> None:
        self.deduplicate_personas(self.make_job(slice_key))

    def publish(self, slice_key: str) -> None:
        self.publish_personas(self.make_job(slice_key))

    def read(self) -> list[tuple[str, str, int]]:
        rows = read_table(self.spark, self.lake, PERSONAS).collect()
        return sorted((row["slice"], row["persona"], row["publication"]) for row in rows)

    def read_removals(self) -> list[tuple[str, str, str, str, str | None, str]]:
        rows = DeltaTable(REMOVALS.path(self.lake)).to_pyarrow_table().to_pylist()
        return sorted((row["slice"], row["stage"], row["text"], row["rule"], row["survivor_id"]) for row in rows)

    def count_feed(self, since: int) -> int:
        if since > self.version:  # not even an empty commit
            return 0
        feed = self.spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", since)
        return feed.load(PERSONAS.path(self.lake)).count()

    @property
    def version(self) -> int:
        return DeltaTable(PERSONAS.path(self.lake)).version()


@pytest.fixture
def hub(make_job: Callable[..., Job], load_job_file: Callable[[str], ModuleType]) -> Hub:
    return Hub(make_job, load_job_file)


def test_slices_side_by_side_then_a_crash_then_another_prompt(hub: Hub) -> None:
    hub.write_candidates(A, BAKER, NURSE)
    hub.write_candidates(B, JUDGE, NURSE, BAKED)
    hub.deduplicate(A)
    hub.deduplicate(B)  # neither sees the other
    hub.publish(A)
    hub.publish(B)
    assert hub.read() == [(A, BAKER, 1), (A, NURSE, 1), (B, JUDGE, 2)]
    baker, nurse = (persona_id(page_id(A, 0, record), 0) for record in (0, 1))
    published_since = [
        (B, "publish_personas", NURSE, "similar_words", nurse),
        (B, "publish_personas", BAKED, "similar_embeddings", baker),
    ]
    assert hub.read_removals() == published_since

    # Airflow's next try after a crash between the commit and its entry: the publication alone, once more.
    shutil.rmtree(PUBLICATIONS.path(hub.lake))
    version = hub.version
    hub.publish(B)
    assert hub.count_feed(version + 1) == 0
    assert hub.read_removals() == published_since
    # 2 is used, though nobody had written it down; the rows keep it.
    assert hub.read() == [(A, BAKER, 1), (A, NURSE, 1), (B, JUDGE, 2)]
    assert [row["publication"] for row in read_rows(hub.lake, PUBLICATIONS)] == [3]

    # The first slice made anew with another prompt: one text stays and keeps its number, one goes, one comes; what
    # another slice has published meanwhile is not said twice.
    hub.write_candidates(A, BAKER, SAILOR, JUDGE)
    hub.deduplicate(A)
    hub.publish(A)
    assert hub.read() == [(A, BAKER, 1), (A, SAILOR, 4), (B, JUDGE, 2)]
    judge = persona_id(page_id(B, 0, 0), 0)
    assert hub.read_removals() == [(A, "dedup_words", JUDGE, "similar_words", judge), *published_since]
    entries = {row["publication"]: (row["slice"], row["rows"]) for row in read_rows(hub.lake, PUBLICATIONS)}
    assert entries == {3: (B, 1), 4: (A, 2)}
