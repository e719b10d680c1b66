"""Why a row is gone and what it replaced: found by id, without reading other slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from paid_lake import make_persona, write_rows

from local.why import REPLACED_SHOWN, explain_row
from persona_hub.settings import Settings, load_settings
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.removals import find_removal, find_replaced
from persona_hub.tables.silver import REMOVALS

A, B = "S/00001", "S/00002"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"PERSONA_HUB_HOME": str(tmp_path)})


def name_row(slice_key: str, number: int) -> str:
    return f"{slice_key}/000000/{number:07d}/p0"


def make_removal(slice_key: str, number: int, survivor: str | None = None, **changes: Any) -> dict[str, Any]:
    found = {"survivor_id": survivor, "similarity": 0.9375, "threshold": 0.9, "method": "jaccard 0.9 of words"}
    return {
        "slice": slice_key, "stage": "dedup_words", "data_type": "", "row_id": name_row(slice_key, number),
        "rule": "similar_words", "detail": "", "text": f"A beekeeper with {number} hives", "run_id": "run 7",
    } | (found if survivor else dict.fromkeys(found)) | changes  # fmt: skip


def test_a_row_and_its_survivor_are_found_from_either_side(settings: Settings) -> None:
    survivor = name_row(A, 1)
    ours = make_removal(B, 5, survivor)
    others = [make_removal(B, 6, name_row(A, 2)), make_removal(B, 55, rule="too_short", detail="3 words")]
    write_rows(settings, REMOVALS, [ours, *others])
    write_rows(settings, REMOVALS, [near := make_removal(A, 4, survivor, rule="similar_embeddings")])
    assert find_removal(settings.lake, name_row(B, 5)) == ours
    assert find_removal(settings.lake, name_row(B, 55)) == others[1]
    assert find_replaced(settings.lake, survivor) == [near, ours]
    assert (find_removal(settings.lake, survivor), find_replaced(settings.lake, name_row(B, 5))) == (None, [])


def test_other_slices_are_not_opened(settings: Settings) -> None:
    for slice_key in (A, B):
        write_rows(settings, REMOVALS, [make_removal(slice_key, 1, name_row(A, 0))])
    stored = DeltaTable(REMOVALS.path(settings.lake)).to_pyarrow_dataset()
    [kept] = {fragment.path for fragment in stored.get_fragments(ds.field("slice") == B)}
    for file in Path(REMOVALS.path(settings.lake)).glob("*.parquet"):
        if file.name != kept:
            file.unlink()
    assert find_removal(settings.lake, name_row(B, 1)) is not None


def test_of_two_stages_the_one_that_ran_last_is_told(settings: Settings) -> None:
    """Removed by an earlier publication, and since by a new deduplication that is not published yet."""
    late = make_removal(B, 1, name_row(A, 1), stage="publish_personas")
    write_rows(settings, REMOVALS, [late, make_removal(B, 1, name_row(A, 2))])
    assert find_removal(settings.lake, name_row(B, 1))["survivor_id"] == name_row(A, 2)


def test_nothing_is_there_yet(settings: Settings) -> None:
    assert (find_removal(settings.lake, "x"), find_replaced(settings.lake, "x")) == (None, [])
    assert explain_row(settings.lake, "x") == ["x: no stage has removed it", "", "It replaced 0 rows"]


def test_the_text_says_both(settings: Settings) -> None:
    write_rows(settings, PERSONAS, [make_persona(A, 1, persona="A \x1b[31mbeekeeper")])
    survivor = name_row(A, 1)
    write_rows(settings, REMOVALS, [make_removal(B, n, survivor) for n in range(REPLACED_SHOWN + 1)])
    write_rows(settings, REMOVALS, [make_removal(B, 90, name_row(A, 9)), make_removal(B, 91, detail="3\nwords")])
    assert explain_row(settings.lake, name_row(B, 3)) == [
        f"{name_row(B, 3)} was removed by the rule similar_words of dedup_words in the run run 7",
        "  it said: A beekeeper with 3 hives",
        f"  for: {survivor}",
        "    A [31mbeekeeper",
        "  similarity 0.9375, threshold 0.9, by jaccard 0.9 of words",
        "",
        "It replaced 0 rows",
    ]
    told = explain_row(settings.lake, survivor)
    assert told[:4] == [f"{survivor}: no stage has removed it", "  published: A [31mbeekeeper", "", "It replaced 21 rows, such as"]
    assert told[4:6] == [f"  {name_row(B, 0)}  similar_words 0.9375", "    A beekeeper with 0 hives"]
    assert len(told) == 4 + 2 * REPLACED_SHOWN
    assert "    which is not published, or not any more" in explain_row(settings.lake, name_row(B, 90))
    assert "  seen: 3 words" in explain_row(settings.lake, name_row(B, 91))
