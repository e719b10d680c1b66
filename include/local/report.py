"""What a slice became, read from the lake without Spark: funnel, personas, samples, cost, exports.

`python -m local.report SLICE [--home DIR]` prints it for any slice that was made. Text of pages and models is
shown as one line without control characters: it comes from strangers, and a terminal obeys escape sequences.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from local.home import find_home
from persona_hub.settings import load_settings
from persona_hub.tables.counts import latest_counts

Row = dict[str, Any]
# What a person wants to read of each stage's output; stages that are not named here are shown by their own name.
PRODUCTS = {
    "ingest_pages": "pages",
    "extract_candidates": "candidates",
    "dedup_words": "after the word sets",
    "dedup_embeddings": "after embeddings",
    "check_personas": "after the gate",
    "publish_personas": "published personas",
    "synthesize_samples": "answers",
    "publish_samples": "published samples",
}
PERSONAS_SHOWN = 3
TEXT_WIDTH = 240


@dataclass(frozen=True)
class SliceReport:
    """The rows of one slice. `stages`: the newest row per stage and data type, oldest first."""

    slice_key: str
    stages: Sequence[Row]
    personas: Sequence[Row]
    samples: dict[str, Sequence[Row]]
    removals: Sequence[Row]


def read_report(lake: str | Path, slice_key: str) -> SliceReport:
    """Reads what the lake holds of a slice; a table that is not there yet counts as empty."""
    stages = latest_counts(read_rows(lake, "ops/stage_counts", slice_key), slice_key)
    types = sorted({row["data_type"] for row in stages if row["data_type"]})
    return SliceReport(
        slice_key,
        stages,
        sorted(read_rows(lake, "gold/personas", slice_key), key=lambda row: row["persona_id"]),
        {
            name: sorted(read_rows(lake, f"gold/task_{name}", slice_key), key=lambda row: row["sample_id"])
            for name in types
        },
        read_rows(lake, "silver/removals", slice_key),
    )


def read_rows(lake: str | Path, table: str, slice_key: str) -> list[Row]:
    """A table's rows of one slice; empty where there is no such table."""
    try:
        found = DeltaTable(f"{lake}/{table}")
    except TableNotFoundError:
        return []
    rows: list[Row] = found.to_pyarrow_table(filters=[("slice", "=", slice_key)]).to_pylist(maps_as_pydicts="strict")
    return rows


def render_report(report: SliceReport, exports: str | Path) -> str:
    """The report as lines for a terminal."""
    parts = [
        f"Slice {report.slice_key}",
        "",
        *_render_funnel([row for row in report.stages if not row["data_type"]]),
        "",
        *_render_personas(report.personas),
        "",
        *_render_types(report),
        "",
        *_render_cost(report.stages),
        "",
        f"Exports: {exports}",
    ]
    return "\n".join(parts)


def clean_line(text: str | None, width: int = TEXT_WIDTH) -> str:
    """One printable line of at most `width` characters."""
    words = " ".join("".join(char if char.isprintable() else " " for char in text or "").split())
    return words if len(words) <= width else words[: width - 1] + "…"


def _render_funnel(stages: Sequence[Row]) -> list[str]:
    if not stages:
        return ["Funnel: no stage has counted anything of this slice."]
    lines = ["Funnel", f"  {'records read':<20} {stages[0]['rows_in'] or 0:>6}"]
    for row in stages:
        removed = ", ".join(f"{rule} {count}" for rule, count in _sort_counts(row["removed"] or {}))
        name = PRODUCTS.get(row["stage"], row["stage"])
        lines.append(
            f"  {name:<20} {row['rows_out'] or 0:>6}   {row['seconds'] or 0:>5.0f} s   {f'less {removed}' if removed else ''}".rstrip()
        )
    return lines


def _render_personas(personas: Sequence[Row]) -> list[str]:
    if not personas:
        return ["Personas: none was published; the reasons are in silver.removals."]
    # Spread over the slice, so that they come from different pages.
    step = max(1, len(personas) // PERSONAS_SHOWN)
    lines = [f"{min(PERSONAS_SHOWN, len(personas))} of {len(personas)} personas"]
    for row in personas[::step][:PERSONAS_SHOWN]:
        lines += [f"  {clean_line(row['persona'])}", f"    from {clean_line(row['url'])} ({row['page_id']})"]
    return lines


def _render_types(report: SliceReport) -> list[str]:
    lines = ["Samples by data type"]
    for name, samples in report.samples.items():
        if samples:
            lines += [f"  {name}: {len(samples)} accepted, such as", f"    {clean_line(samples[0]['text'])}"]
            continue
        asked = sum(
            row["rows_in"] or 0
            for row in report.stages
            if row["data_type"] == name and row["stage"] == "synthesize_samples"
        )
        reasons = Counter(row["rule"] for row in report.removals if row["data_type"] == name)
        told = ", ".join(f"{rule} {count}" for rule, count in _sort_counts(reasons))
        lines.append(f"  {name}: 0 of {asked} accepted" + (f" ({told})" if told else ""))
    return lines if report.samples else ["Samples: no data type was synthesized."]


def _render_cost(stages: Sequence[Row]) -> list[str]:
    calls, prompt, completion = (
        sum(row[name] or 0 for row in stages) for name in ("calls", "prompt_tokens", "completion_tokens")
    )
    paid = [row for row in stages if row["calls"]]
    unpriced = sum(row["calls"] for row in paid if row["money"] is None)
    money = f"{sum(row['money'] or 0 for row in paid):.4f}" + (f", {unpriced} calls without a price" if unpriced else "")
    if paid and unpriced == calls:
        money = "no price is set"
    return [f"Spent: {calls} calls, {prompt} prompt and {completion} completion tokens; money: {money}"]


def _sort_counts(counts: Any) -> list[tuple[str, int]]:
    return sorted(dict(counts).items(), key=lambda item: (-item[1], item[0]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.report", description=__doc__.splitlines()[0])
    parser.add_argument("slice_key", metavar="SLICE", help="such as CC-MAIN-2026-30/00001")
    parser.add_argument("--home", help="the installation's folder; .hub in the checkout if unset")
    chosen = parser.parse_args()
    settings = load_settings(find_home(chosen.home).settings_environment())
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    print(render_report(read_report(settings.lake, chosen.slice_key), settings.exports))


if __name__ == "__main__":
    main()
