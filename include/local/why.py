"""Why a page, persona or sample is gone, and what it replaced: `python -m local.why ROW_ID [--home DIR]`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pyarrow.dataset as ds

from local.home import find_home
from local.report import clean_line
from persona_hub.settings import load_settings
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.removals import find_removal, find_replaced
from persona_hub.tables.scan import scan_table

REPLACED_SHOWN = 20


def explain_row(lake: str, row_id: str) -> list[str]:
    """The answer as lines for a terminal."""
    gone, replaced = find_removal(lake, row_id), find_replaced(lake, row_id)
    lines = _tell_removal(lake, gone) if gone else [f"{clean_line(row_id)}: no stage has removed it"]
    published = _read_text(lake, row_id, gone["data_type"] if gone else "")
    if published is not None:
        lines.append(f"  published: {clean_line(published)}")
    lines += ["", f"It replaced {len(replaced)} rows" + (", such as" if len(replaced) > REPLACED_SHOWN else "")]
    for row in replaced[:REPLACED_SHOWN]:
        lines += [f"  {row['row_id']}  {row['rule']} {row['similarity']:.4g}", f"    {clean_line(row['text'])}"]
    return lines


def _tell_removal(lake: str, row: dict[str, Any]) -> list[str]:
    lines = [f"{clean_line(row['row_id'])} was removed by the rule {row['rule']} of {row['stage']} in the run {row['run_id']}"]
    if row["text"] is not None:
        lines.append(f"  it said: {clean_line(row['text'])}")
    if row["detail"]:
        lines.append(f"  seen: {clean_line(row['detail'])}")
    if row["survivor_id"] is not None:
        lines.append(f"  for: {row['survivor_id']}")
        text = _read_text(lake, row["survivor_id"], row["data_type"])
        lines.append(f"    {clean_line(text) if text is not None else 'which is not published, or not any more'}")
        lines.append(f"  similarity {row['similarity']:.9g}, threshold {row['threshold']:g}, by {row['method']}")
    return lines


def _read_text(lake: str, row_id: str, data_type: str) -> str | None:
    """Of a published persona or sample; None where there is none of this id."""
    parts = row_id.split("/")
    data_type = data_type or (parts[-2] if parts[-1].startswith("s") and len(parts) > 2 else "")
    table, key, column = (task_table(data_type), "sample_id", "text") if data_type else (PERSONAS, "persona_id", "persona")
    where = (ds.field("slice") == "/".join(parts[:2])) & (ds.field(key) == row_id)
    texts = [text for batch in scan_table(lake, table, [column], where) for text in batch[column].to_pylist()]
    return texts[0] if texts else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.why", description=__doc__.splitlines()[0])
    parser.add_argument("row_id", metavar="ROW_ID", help="such as CC-MAIN-2026-30/00001/000044/0000123/p0")
    parser.add_argument("--home", help="the installation's folder; .hub in the checkout if unset")
    chosen = parser.parse_args()
    settings = load_settings(find_home(chosen.home).settings_environment())
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    print("\n".join(explain_row(settings.lake, chosen.row_id)))


if __name__ == "__main__":
    main()
