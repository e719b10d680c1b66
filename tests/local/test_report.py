"""The report over small Delta tables written here; numbers and names are asserted as a reader sees them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from local.report import clean_line, read_report, render_report

SLICE, OTHER = "SAMPLE-2026-01/00001", "SAMPLE-2026-01/00002"
COUNTS = pa.schema(
    [
        ("slice", pa.string()), ("stage", pa.string()), ("data_type", pa.string()), ("run_id", pa.string()),
        ("started_at", pa.timestamp("us", "UTC")), ("seconds", pa.float64()), ("rows_in", pa.int64()), ("rows_out", pa.int64()),
        ("removed", pa.map_(pa.string(), pa.int64())), ("calls", pa.int64()), ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()), ("money", pa.float64()),
    ]
)  # fmt: skip


def count(
    stage: str, minute: int, rows: tuple[int, int], *, kind: str | None = None, removed=None, slice_key=SLICE, **spent
):
    row = {"slice": slice_key, "stage": stage, "data_type": kind, "run_id": f"run{minute}", "seconds": 2.0}
    row |= {"started_at": datetime(2026, 1, 1, 0, minute, tzinfo=UTC), "rows_in": rows[0], "rows_out": rows[1]}
    return (
        row
        | {"removed": list((removed or {}).items())}
        | {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "money": None}
        | spent
    )


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    counts = [
        count("ingest_pages", 1, (60, 50), removed={"too_short": 7, "navigation": 3}),
        count("extract_candidates", 2, (50, 48), calls=50, prompt_tokens=500, completion_tokens=90),
        # An earlier run of a stage that ran again: only the newer one is shown.
        count("publish_personas", 3, (48, 99)),
        count("publish_personas", 4, (48, 45)),
        count(
            "synthesize_samples",
            5,
            (2, 1),
            kind="math",
            removed={"has_solution": 1},
            calls=2,
            prompt_tokens=20,
            completion_tokens=10,
        ),
        count("publish_samples", 6, (1, 1), kind="math"),
        count("synthesize_samples", 7, (2, 0), kind="tool", removed={"no_json": 2}, calls=2),
        count("ingest_pages", 8, (1000, 1000), slice_key=OTHER),
    ]
    write_deltalake(f"{tmp_path}/ops/stage_counts", pa.Table.from_pylist(counts, COUNTS))
    personas = [
        {
            "persona_id": f"{SLICE}/000000/000000{n}/p0",
            "slice": SLICE,
            "persona": f"A baker number {n}",
            "url": f"https://a.example/{n}",
        }
        | {"page_id": f"{SLICE}/000000/000000{n}"}
        for n in range(1, 7)
    ]
    write_deltalake(f"{tmp_path}/gold/personas", pa.Table.from_pylist(personas))
    sample = {
        "sample_id": "s1",
        "slice": SLICE,
        "persona_id": "p1",
        "persona": "A baker",
        "text": "How many\n\x1b[31mloaves?",
    }
    write_deltalake(
        f"{tmp_path}/gold/task_math", pa.Table.from_pylist([sample, {**sample, "sample_id": "s0", "slice": OTHER}])
    )
    removal = {
        "slice": SLICE,
        "stage": "synthesize_samples",
        "row_id": "x",
        "detail": "",
        "survivor_id": "",
        "similarity": 0.0,
    }
    rules = [("tool", "no_json"), ("tool", "no_json"), ("tool", "empty"), ("math", "has_solution")]
    removals = [{**removal, "data_type": kind, "rule": rule} for kind, rule in rules]
    write_deltalake(f"{tmp_path}/silver/removals", pa.Table.from_pylist(removals))
    return tmp_path


def test_the_funnel_shows_this_slice_and_the_newest_run_of_each_stage(lake: Path):
    stages = [(row["stage"], row["data_type"], row["rows_out"]) for row in read_report(lake, SLICE).stages]
    assert stages == [
        ("ingest_pages", None, 50),
        ("extract_candidates", None, 48),
        ("publish_personas", None, 45),
        ("synthesize_samples", "math", 1),
        ("publish_samples", "math", 1),
        ("synthesize_samples", "tool", 0),
    ]


def test_the_text_says_what_came_out(lake: Path):
    lines = render_report(read_report(lake, SLICE), "/exports").splitlines()
    assert "  pages                    50       2 s   less too_short 7, navigation 3" in lines
    assert "3 of 6 personas" in lines
    assert [line for line in lines if "A baker number" in line] == [f"  A baker number {n}" for n in (1, 3, 5)]
    assert f"    from https://a.example/3 ({SLICE}/000000/0000003)" in lines
    assert lines[lines.index("  math: 1 accepted, such as") + 1] == "    How many [31mloaves?"
    assert "  tool: 0 of 2 accepted (no_json 2, empty 1)" in lines
    assert "Spent: 54 calls, 520 prompt and 100 completion tokens; money: no price is set" in lines
    assert lines[-1] == "Exports: /exports"


def test_money_is_summed_where_it_is_known(tmp_path: Path):
    rows = [count("extract_candidates", 1, (1, 1), calls=1, money=0.25), count("ingest_pages", 2, (1, 1))]
    write_deltalake(f"{tmp_path}/ops/stage_counts", pa.Table.from_pylist(rows, COUNTS))
    assert "money: 0.2500" in render_report(read_report(tmp_path, SLICE), "")


def test_an_empty_lake_is_told_as_such(tmp_path: Path):
    text = render_report(read_report(tmp_path, SLICE), "/exports")
    assert "no stage has counted anything of this slice" in text
    assert "none was published" in text


def test_hostile_text_becomes_one_plain_line():
    assert clean_line("a\x1b]0;title\x07\n\u202eb  c") == "a ]0;title b c"
    assert clean_line("x" * 300, 10) == "x" * 9 + "…"
    assert clean_line(None) == ""
