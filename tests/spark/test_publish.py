"""Publication: numbers are for ever, a repeat changes nothing, slices side by side share no persona."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from math import cos, radians, sin
from types import ModuleType

import pytest
from persona_lake import PersonaLake

from persona_hub.core.keys import page_id, persona_id, text_hash
from persona_hub.spark.job import Job
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.small import read_rows

A, B = "S/00001", "S/00002"
BAKER, NURSE, SAILOR, JUDGE, PILOT = (
    f"A {who} with a long story" for who in ("baker of bread", "night nurse", "sailor at sea", "strict judge", "test pilot")
)
# Of one story and the next no pair is alike, by words or by these vectors; of BAKED and BAKER the vectors are.
BAKED = "One who bakes bread, with stories to tell"
VECTOR = {text: [float(place == other) for other in range(5)] for place, text in enumerate((BAKER, NURSE, SAILOR, JUDGE, PILOT))}
VECTOR[BAKED] = [0.95, 0.0, 0.0, 0.0, 0.3122499]


@pytest.fixture
def hub(make_job: Callable[..., Job], load_job_file: Callable[[str], ModuleType]) -> PersonaLake:
    return PersonaLake(make_job, load_job_file, VECTOR)


def test_slices_side_by_side_then_a_crash_then_another_prompt(hub: PersonaLake) -> None:
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


def test_what_went_for_a_row_that_goes_comes_back(make_job: Callable[..., Job], load_job_file: Callable[[str], ModuleType]) -> None:
    """b goes for a, then a for what another slice has published meanwhile, to which b is not similar: b stays."""
    first, second = sorted(["A diver off Malta", "Some tailor in Porto"], key=text_hash)
    away = {BAKER: 0, first: 20, second: 40}  # degrees: neighbours are similar
    vectors = {text: (cos(radians(angle)), sin(radians(angle))) for text, angle in away.items()}
    hub = PersonaLake(make_job, load_job_file, vectors)
    hub.write_candidates(A, BAKER)
    hub.write_candidates(B, first, second)
    hub.deduplicate(A)
    hub.deduplicate(B)
    [gone] = hub.read_removals()
    assert gone[2] == second
    hub.publish(A)
    hub.publish(B)
    assert hub.read() == [(A, BAKER, 1), (B, second, 2)]
    baker = persona_id(page_id(A, 0, 0), 0)
    assert hub.read_removals() == [(B, "dedup_embeddings", first, "similar_embeddings", baker)]
