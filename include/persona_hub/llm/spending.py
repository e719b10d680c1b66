"""What calls have cost so far, and what open batches will: from these, from spools that wait, and from the ledger.

Money moves from a batch to a spool, and from there to the ledger. It is looked for in this order, so that what moves
meanwhile is not missed: an answer that is found twice counts once, and a batch that comes home just then may count
twice for that once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from persona_hub.errors import BudgetReached, LakeError
from persona_hub.llm.batch_store import Intent, iter_asked
from persona_hub.llm.spool import list_files, read_lines
from persona_hub.settings import BudgetSettings
from persona_hub.tables.scan import scan_table
from persona_hub.tables.silver import COMPLETIONS

log = logging.getLogger(__name__)
_COLUMNS = ("slice", "stage", "data_type", "run_id", "money", "answered_at", "completion_key")
_TYPES = (*[pa.string()] * 4, pa.float64(), pa.timestamp("us", tz="UTC"), pa.string())
_SCHEMA = pa.schema(list(zip(_COLUMNS, _TYPES, strict=True)))


def read_spent(
    lake: str, run_id: str, slice_key: str, stage: str, data_type: str, now: datetime
) -> dict[str, float]:
    """Money by line of the budget (the names of `BudgetSettings`); calls without a known price add nothing.

    A batch that was asked for and is not at home counts as spent now: its answers will be dated when they come.

    Args:
        lake: root of the lake.
        run_id, slice_key, stage, data_type: what counts for the lines of this run and of this stage in it.
        now: with a time zone; its day and month in UTC are meant.
    """
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    of_run = ds.field("run_id") == run_id
    of_stage = of_run & (ds.field("slice") == slice_key) & (ds.field("stage") == stage)
    lines = {
        "per_run": of_run,
        "per_stage": of_stage & (ds.field("data_type") == data_type),
        "per_day": ds.field("answered_at") >= day,
        "per_month": ds.field("answered_at") >= month,
    }
    spent = dict.fromkeys(lines, 0.0)
    for rows in _iter_bought(lake, lines["per_month"] | of_run, now):
        for name, where in lines.items():
            spent[name] += pc.sum(rows.filter(where)["money"]).as_py() or 0.0
    return spent


def check_room(lake: str, budget: BudgetSettings, intent: Intent) -> None:
    """Whether a batch may be asked for. Whoever calls this keeps others from asking until it is written that it was.

    Raises:
        BudgetReached: its likely money would pass a line.
    """
    if not budget.is_set:
        return
    fields, money = intent.fields, intent.money or 0.0
    run_id, slice_key, stage, data_type = (fields[name] for name in ("run_id", "slice", "stage", "data_type"))
    spent = read_spent(lake, run_id, slice_key, stage, data_type, datetime.now(UTC))
    for name, line in budget:
        if line is not None and spent[name] + money > line:
            setting = f"PERSONA_HUB_BUDGET__{name.upper()}"
            raise BudgetReached(
                f"A batch of {intent.requests} requests of {stage} over {slice_key} will likely cost {money:.4f}, "
                f"which would pass the budget: {spent[name]:.4f} spent or in open batches, {setting}={line:g}",
                wanted="both together within the line",
                cure=f"raise {setting}, or make batches smaller (PERSONA_HUB_BATCH__MAX_REQUESTS), "
                "then clear this task",
            )


def _iter_bought(lake: str, where: ds.Expression, now: datetime) -> Iterator[pa.Table]:
    in_batches: list[dict[str, Any]] = [
        {**intent.fields, "money": intent.money, "answered_at": now, "completion_key": ""}
        for intent in iter_asked(lake)
    ]
    in_spools: dict[str, dict[str, Any]] = {}
    for row in _iter_waiting(lake):
        in_spools.setdefault(row["completion_key"], row)
    for rows in (in_batches, list(in_spools.values())):
        yield pa.Table.from_pylist(rows, schema=_SCHEMA).filter(where)
    known = pa.array(list(in_spools), pa.string())
    for batch in scan_table(lake, COMPLETIONS, _COLUMNS if in_spools else _COLUMNS[:-1], where):
        rows = pa.table(batch)
        yield rows.filter(pc.invert(pc.is_in(rows["completion_key"], known))) if in_spools else rows


def _iter_waiting(lake: str) -> Iterator[dict[str, Any]]:
    for folder in sorted((Path(lake) / "silver" / "_spool").glob("*/*")):
        with suppress(FileNotFoundError):  # the folder is gone: what was in it is in the ledger
            for file in list_files(folder):
                yield from _read_file(file)


def _read_file(file: Path) -> Iterator[dict[str, Any]]:
    try:
        for row in read_lines(file):
            yield {name: row[name] for name in _COLUMNS}
    except FileNotFoundError:
        return  # folded since it was listed
    except LakeError as error:  # a newer version's: the stage that it belongs to will fail, no other has to
        log.warning("some of what waits in a spool does not count as spent: %s", error)
