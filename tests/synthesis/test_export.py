"""Export from real Delta tables, written here without Spark."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from persona_hub.core.keys import text_hash
from persona_hub.errors import RegistryError, UnknownSlice
from persona_hub.settings import Settings, load_settings
from persona_hub.synthesis.export import export_samples
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.small import arrow_schema

SLICE, OTHER = "CC-MAIN-2026-30/00001", "CC-MAIN-2026-30/00002"
FILES = ("manifest.json", "samples.jsonl", "samples.parquet")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"PERSONA_HUB_HOME": str(tmp_path)})


def sample(record: int, slice_key: str = SLICE, **changes: Any) -> dict[str, Any]:
    persona_id = f"{slice_key}/000000/{record:07d}/p0"
    text = f"“Wie viele?” fragt Nr. {record}\n问题?"
    return {
        "slice": slice_key,
        "sample_id": f"{persona_id}/math/s0",
        "persona_id": persona_id,
        "persona": f"A baker of {record} loaves, 面包师",
        "text": text,
        "payload": None,
        "description": "math problem",
        "publication": 1,
        "text_hash": text_hash(text),
        "completion_key": "0" * 64,
        "prompt_id": "math.small",
        "prompt_hash": "1" * 32,
        "model": "m",
    } | changes


def write_rows(settings: Settings, rows: list[dict[str, Any]]) -> None:
    math = task_table("math")
    write_deltalake(
        math.path(settings.lake), pa.Table.from_pylist(rows, schema=arrow_schema(math)), mode="append"
    )
    write_deltalake(
        PERSONAS.path(settings.lake), pa.Table.from_pylist([], schema=arrow_schema(PERSONAS)), mode="append"
    )


def test_a_slice_as_training_reads_it(settings: Settings) -> None:
    rows = [sample(3), sample(1, model="other"), sample(2)]
    write_rows(settings, rows)
    write_rows(settings, [sample(1, OTHER)])
    folder = export_samples(settings, SLICE, "math")
    assert folder == Path(settings.exports) / SLICE / "math"
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)

    by_id = sorted(rows, key=lambda row: row["sample_id"])
    text = (folder / "samples.jsonl").read_text(encoding="utf-8")
    assert text == "".join(
        f'{{"input persona": {json.dumps(row["persona"], ensure_ascii=False)}, '
        f'"synthesized text": {json.dumps(row["text"], ensure_ascii=False)}, "description": "math problem"}}\n'
        for row in by_id
    )
    assert "面包师" in text

    stored = pq.read_table(folder / "samples.parquet").to_pylist()
    assert stored == [{name: value for name, value in row.items() if name != "slice"} for row in by_id]

    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES[1:]}
    made = {"prompt_id": "math.small", "prompt_hash": "1" * 32}
    assert json.loads((folder / "manifest.json").read_text()) == {
        "slice": SLICE,
        "data_type": "math",
        "description": "math problem",
        "rows": 3,
        "tables": {"gold.task_math": 1, "gold.personas": 1},
        "made_with": [made | {"model": "m", "rows": 2}, made | {"model": "other", "rows": 1}],
        "sha256": hashes,
    }


def test_a_repeat_gives_the_same_bytes(settings: Settings) -> None:
    write_rows(settings, [sample(record) for record in range(50)])
    first = {name: (export_samples(settings, SLICE, "math") / name).read_bytes() for name in FILES}
    again = {name: (export_samples(settings, SLICE, "math") / name).read_bytes() for name in FILES}
    assert first == again


def test_a_slice_without_samples_is_an_empty_export(settings: Settings) -> None:
    write_rows(settings, [sample(1, OTHER)])
    folder = export_samples(settings, SLICE, "math")
    assert (folder / "samples.jsonl").read_bytes() == b""
    assert pq.read_table(folder / "samples.parquet").num_rows == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["rows"], manifest["made_with"]) == (0, [])


@pytest.mark.parametrize(
    ("slice_key", "data_type", "error", "told"),
    [
        (SLICE, "poetry", RegistryError, "No data type 'poetry'. Wanted: one of math, logic"),
        ("CC-MAIN-2026-30", "math", UnknownSlice, "'CC-MAIN-2026-30' is no slice key"),
        ("../../00001", "math", UnknownSlice, "is no slice key"),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(
    settings: Settings, slice_key: str, data_type: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error) as raised:
        export_samples(settings, slice_key, data_type)
    assert told in str(raised.value)
    assert not Path(settings.exports).exists()
