"""The funnel. Stages write their counts as small files; a fold brings them into `ops.stage_counts`.

A count is a few hundred bytes and comes from many drivers at once: a file each costs nobody a lease or a commit.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from persona_hub.core.whole_file import write_whole
from persona_hub.tables.ops import STAGE_COUNTS
from persona_hub.tables.small import merge_rows, read_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageCount:
    """One row of `ops.stage_counts`; its docs say what each field means."""

    slice: str
    stage: str
    data_type: str
    run_id: str
    attempt: int
    started_at: datetime
    seconds: float
    rows_in: int
    rows_out: int
    removed: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    from_ledger: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float | None = None

    def __post_init__(self) -> None:
        if self.rows_in != self.rows_out + self.rows_removed:
            raise ValueError(
                f"stage {self.stage} of {self.slice} cannot explain its rows: "
                f"{self.rows_in} in, {self.rows_out} out, removed {self.removed}"
            )

    @property
    def rows_removed(self) -> int:
        return sum(self.removed.values())


def write_count(lake: str, count: StageCount) -> None:
    """Writes one count durably, as a file that the next fold takes up."""
    folder = _folder(lake)
    folder.mkdir(parents=True, exist_ok=True)
    row = asdict(count) | {"rows_removed": count.rows_removed, "started_at": count.started_at.isoformat()}
    write_whole(folder / f"{uuid.uuid4().hex}.json", json.dumps(row), durable=True)


def fold_counts(lake: str) -> list[dict[str, Any]]:
    """Brings all waiting counts into the table and returns the whole funnel. Safe to repeat, and to kill."""
    files = sorted(_folder(lake).glob("*.json"))
    rows = sorted((row for file in files if (row := _read_count(file))), key=lambda row: row["started_at"])
    merge_rows(lake, STAGE_COUNTS, list({tuple(row[name] for name in STAGE_COUNTS.key): row for row in rows}.values()))
    for file in files:
        file.unlink(missing_ok=True)
    return read_rows(lake, STAGE_COUNTS)


def find_last_end(lake: str, slice_key: str, stage: str, data_type: str) -> datetime | None:
    """When a stage of a slice last came to its end; None if it never did."""
    row = find_last_count(lake, slice_key, stage, data_type)
    return row["started_at"] + timedelta(seconds=row["seconds"]) if row else None


def find_last_count(lake: str, slice_key: str, stage: str, data_type: str) -> dict[str, Any] | None:
    """The count of a stage of a slice that came to its end last; None if none ever did."""
    same = [("slice", "=", slice_key), ("stage", "=", stage), ("data_type", "=", data_type)]
    # The files first: a fold in between moves them into the table.
    waiting = [row for file in _folder(lake).glob("*.json") if (row := _read_count(file))]
    rows = [row for row in waiting if all(row[name] == value for name, _, value in same)]
    rows += read_rows(lake, STAGE_COUNTS, filters=[*same])
    return max(rows, key=lambda row: row["started_at"] + timedelta(seconds=row["seconds"]), default=None)


def _read_count(file: Path) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:  # another fold was faster
        return None
    except ValueError:
        log.warning("%s is no count of a stage; it is kept aside as .broken", file)
        file.rename(file.with_suffix(".broken"))
        return None
    return row | {"started_at": datetime.fromisoformat(row["started_at"])}


def latest_counts(rows: Iterable[dict[str, Any]], slice_key: str) -> list[dict[str, Any]]:
    """Of a slice, each stage's (and data type's) newest row, in the order in which the stages ran."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["started_at"]):
        if row["slice"] == slice_key:
            newest.pop((row["stage"], row["data_type"]), None)
            newest[row["stage"], row["data_type"]] = row
    return list(newest.values())


def format_funnel(rows: Iterable[dict[str, Any]], slice_key: str) -> list[str]:
    """The funnel of a slice as lines for a log: rows in, out, why, seconds, calls, tokens, money."""
    lines = [f"{slice_key:<34} {'in':>8} {'out':>8} {'s':>7} {'calls':>6} {'tokens':>8} {'money':>9}  removed"]
    for row in latest_counts(rows, slice_key):
        name = row["stage"] + (f" {row['data_type']}" if row["data_type"] else "")
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        money = "unpriced" if row["calls"] and row["money"] is None else f"{row['money'] or 0:.4f}"
        why = ", ".join(f"{rule} {n}" for rule, n in sorted(row["removed"].items(), key=lambda item: (-item[1], item)))
        lines.append(
            f"{name:<34} {row['rows_in']:>8} {row['rows_out']:>8} {row['seconds']:>7.1f} {row['calls']:>6} "
            f"{tokens:>8} {money:>9}  {why or '-'}"
        )
    return lines


def _folder(lake: str) -> Path:
    return Path(lake) / "ops" / "_counts"
