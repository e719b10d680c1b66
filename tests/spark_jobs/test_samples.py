"""Samples of several slices: copies and texts that embed one another go, and a slice published twice changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType

import pytest
from deltalake import DeltaTable

from persona_hub.core.keys import page_id, persona_id, sample_id, text_hash
from persona_hub.errors import LakeError
from persona_hub.spark.job import Job
from persona_hub.spark.questions import READ_SCHEMA
from persona_hub.tables.gold import task_table
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.silver import REMOVALS
from persona_hub.tables.small import read_rows

A, B, C = "S/00001", "S/00002", "S/00003"
TABLE = task_table("math")
LOAVES = "A baker sells 12 loaves on Monday and 19 on Tuesday, each for 3 dollars. How much does she earn in both days?"
FRAMED = f"Here is a problem for you to think about: {LOAVES} Take your time, and write down every step that you take."
MAPS = "A sailor has 4 old maps and buys 7 more in each of 5 harbours. How many maps has he when he comes home at last?"
TRAINS = "Two night trains leave at 21:40 and 23:05. How many minutes lie between them, and how many between 300 such pairs?"


class Samples:
    def __init__(self, make_job: Callable[..., Job], module: ModuleType) -> None:
        self.make_job, self.module = make_job, module
        module.check_slice = lambda *_: None  # tests of the gate are elsewhere

    def publish(self, slice_key: str, *texts: str, **changes: object) -> None:
        job = self.make_job(slice_key, "math", **changes)
        rows = []
        for place, text in enumerate(texts):
            persona = persona_id(page_id(slice_key, 0, place), 0)
            rows.append((sample_id(persona, "math", 0), persona, "A baker", "0" * 64, "p", "1" * 32, "m", text, None, text_hash(text), None, None))
        self.lake = job.lake
        self.module.publish_samples(job, job.spark.createDataFrame(rows, READ_SCHEMA).localCheckpoint())

    def read(self) -> list[tuple[str, str, int]]:
        rows = DeltaTable(TABLE.path(self.lake)).to_pyarrow_table().to_pylist()
        return sorted((row["slice"], row["text"], row["publication"]) for row in rows)

    def read_removals(self) -> list[tuple[str, str, str, float, str]]:
        rows = DeltaTable(REMOVALS.path(self.lake)).to_pyarrow_table().to_pylist()
        assert {(row["stage"], row["data_type"]) for row in rows} <= {("publish_samples", "math")}
        return sorted((row["slice"], row["text"], row["rule"], row["similarity"], row["survivor_id"][:7]) for row in rows)


@pytest.fixture
def samples(make_job: Callable[..., Job], load_job_file: Callable[[str], ModuleType]) -> Samples:
    return Samples(make_job, load_job_file("synthesize_samples"))


def test_copies_and_embedded_texts_across_slices(samples: Samples) -> None:
    samples.publish(A, LOAVES, MAPS)
    samples.publish(B, FRAMED, MAPS, TRAINS)
    hub = [(A, LOAVES, 1), (A, MAPS, 1), (B, TRAINS, 2)]
    assert samples.read() == hub
    gone = samples.read_removals()
    assert gone == [(B, MAPS, "similar_words", 1.0, A), (B, FRAMED, "contained", 1.0, A)]
    version = DeltaTable(TABLE.path(samples.lake)).version()
    samples.publish(B, FRAMED, MAPS, TRAINS)
    samples.publish(A, LOAVES, MAPS)  # and what others have published since does not turn round
    assert (samples.read(), samples.read_removals()) == (hub, gone)
    assert DeltaTable(TABLE.path(samples.lake)).version() == version
    manifests = [json.loads(row["manifest"]) for row in read_rows(samples.lake, PUBLICATIONS)]
    assert {manifest["dedup"]["dedup_containment"]["threshold"] for manifest in manifests} == {0.8}
    with pytest.raises(LakeError, match=r"gold\.task_math: slice S/0000. was deduplicated by .*containment 0\.8 .*containment 0\.5 "):
        samples.publish(C, TRAINS, dedup__containment=0.5)


def test_keys_that_need_an_order_of_words(samples: Samples) -> None:
    """Below 0.8 words are found by prefixes."""
    samples.publish(A, LOAVES, MAPS, dedup__words=0.6)
    samples.publish(B, MAPS.replace("4 old", "8 new"), TRAINS, dedup__words=0.6)
    assert samples.read() == [(A, LOAVES, 1), (A, MAPS, 1), (B, TRAINS, 2)]
