"""Large tables read by Arrow: what is asked for, and no more than must be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake
from paid_lake import make_answer, write_answers, write_personas

from persona_hub.errors import TableMismatch
from persona_hub.llm.requests import Request
from persona_hub.settings import Settings, load_settings
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.scan import scan_newest, scan_table
from persona_hub.tables.silver import COMPLETIONS

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
SLICES = ("S/00001", "S/00002", "S/00003")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"PERSONA_HUB_HOME": str(tmp_path)})


def test_a_slice_in_batches_of_the_columns_asked_for(settings: Settings) -> None:
    for name in SLICES:
        write_personas(settings, name, range(5_000))
    batches = list(scan_table(settings.lake, PERSONAS, ("persona_id",), ds.field("slice") == "S/00002"))
    assert {tuple(batch.schema.names) for batch in batches} == {("persona_id",)}
    assert max(batch.num_rows for batch in batches) <= 4_096
    ids = [row for batch in batches for row in batch["persona_id"].to_pylist()]
    assert sorted(ids) == [f"S/00002/000000/{number:07d}/p0" for number in range(5_000)]


def test_files_of_other_slices_are_not_opened(settings: Settings) -> None:
    for name in SLICES:
        write_personas(settings, name, range(3))
    path = Path(PERSONAS.path(settings.lake))
    ours = DeltaTable(str(path)).to_pyarrow_dataset().get_fragments(ds.field("slice") == "S/00002")
    kept = {fragment.path for fragment in ours}
    assert len(kept) == 1
    for file in path.glob("*.parquet"):
        if file.name not in kept:
            file.unlink()
    batches = scan_table(settings.lake, PERSONAS, ("slice",), ds.field("slice") == "S/00002")
    assert sum(batch.num_rows for batch in batches) == 3


def test_newest_files_come_first_and_old_ones_need_not_be_there(settings: Settings) -> None:
    for day, name in enumerate(SLICES):
        rows = [make_answer(Request("m", []), name, answered_at=NOON + timedelta(days=-day))]
        write_answers(settings, rows)
    everything = ds.field("model") == "m"
    batches = scan_newest(settings.lake, COMPLETIONS, "answered_at", ("slice",), everything)
    assert [slice_ for batch in batches for slice_ in batch["slice"].to_pylist()] == list(SLICES)

    stored = DeltaTable(COMPLETIONS.path(settings.lake)).to_pyarrow_dataset()
    kept = {fragment.path for fragment in stored.get_fragments(ds.field("slice") == SLICES[0])}
    for file in Path(COMPLETIONS.path(settings.lake)).glob("*.parquet"):
        if file.name not in kept:
            file.unlink()
    again = scan_newest(settings.lake, COMPLETIONS, "answered_at", ("slice",), everything)
    assert next(again)["slice"].to_pylist() == [SLICES[0]]


def test_a_table_of_another_time_is_refused(settings: Settings) -> None:
    write_deltalake(COMPLETIONS.path(settings.lake), pa.table({"completion_key": ["0" * 64], "slice": ["S"]}))
    with pytest.raises(TableMismatch, match=r"silver.completions at .+ lacks the columns \['answered_at', "):
        list(scan_table(settings.lake, COMPLETIONS, ("slice",)))


def test_a_table_without_rows(settings: Settings) -> None:
    write_answers(settings, [])
    everything = ds.field("model") == "m"
    assert sum(batch.num_rows for batch in scan_table(settings.lake, COMPLETIONS, ("slice",), everything)) == 0
    newest = scan_newest(settings.lake, COMPLETIONS, "answered_at", ("slice",), everything)
    assert sum(batch.num_rows for batch in newest) == 0


def test_no_table_has_no_rows(settings: Settings) -> None:
    assert list(scan_table(settings.lake, PERSONAS, ("slice",))) == []
    assert list(scan_newest(settings.lake, COMPLETIONS, "answered_at", ("slice",), ds.field("slice") == "S")) == []
