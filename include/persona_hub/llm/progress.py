"""How the calls of a stage go: each writer says it beside its spool file, the driver adds it up in the task's log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persona_hub.core.background import repeat
from persona_hub.core.whole_file import write_whole
from persona_hub.llm.calls import CallStats
from persona_hub.llm.spool import STATUS, SpoolWriter

log = logging.getLogger(__name__)
REPORT_S = 5.0


def write_status(writer: SpoolWriter, stats: CallStats) -> None:
    """Says how one writer's calls go, for `report_progress` in another process."""
    write_whole(writer.path.with_suffix(STATUS), json.dumps(describe_calls(writer, stats)))


def describe_calls(writer: SpoolWriter, stats: CallStats) -> dict[str, Any]:
    """One writer's figures as plain values, its money besides."""
    return vars(stats) | {"kept": dict(stats.kept), "failed": dict(stats.failed), "money": writer.money}


@contextmanager
def report_progress(label: str, folder: Path, total: int) -> Iterator[None]:
    """Logs a line every few seconds while the block runs, and one at its end.

    Args:
        label: what the lines begin with.
        folder: of the stage's spool; files of earlier runs must be gone from it.
        total: calls to make.
    """
    begun = time.monotonic()

    def report() -> None:
        log.info("%s: %s", label, format_progress(read_statuses(folder), total, time.monotonic() - begun))

    try:
        with repeat(report, REPORT_S, "progress"):
            yield
    finally:
        report()


def read_statuses(folder: Path) -> list[dict[str, Any]]:
    """What each writer said last."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob(f"*{STATUS}"))]


def format_progress(statuses: list[dict[str, Any]], total: int, seconds: float) -> str:
    """As in `120 of 400 answered (2 failed), 16 in flight, 8.1 a second, 3 refused, 52,100 tokens, 0.0412 money, 35 s left`."""
    done = sum(status["answered"] + sum(status["kept"].values()) for status in statuses)
    failed = sum(sum(status["kept"].values()) + status["unanswered"] for status in statuses)
    tokens = sum(status["prompt_tokens"] + status["completion_tokens"] for status in statuses)
    money = [status["money"] for status in statuses if status["money"] is not None]
    rate = done / seconds if seconds else 0.0
    parts = [f"{done} of {total} answered" + (f" ({failed} failed)" if failed else "")]
    parts.append(f"{sum(status['in_flight'] for status in statuses)} in flight")
    parts.append(f"{rate:.1f} a second")
    if refused := sum(status["refused"] for status in statuses):
        parts.append(f"{refused} refused")
    parts.append(f"{tokens:,} tokens")
    parts.append(f"{sum(money):.4f} money" if money else "unpriced")
    if done < total:
        parts.append(f"{(total - done) / rate:.0f} s left" if rate else "no answer yet")
    waiting = sorted({status["waiting"] for status in statuses if status["waiting"]})
    return ", ".join(parts) + (f"; waiting: {'; '.join(waiting)}" if waiting else "")
