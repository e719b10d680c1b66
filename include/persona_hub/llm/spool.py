"""The spool: each answer is durable before anything else happens to it.

One file per writer (`<lake>/silver/_spool/<slice>/<stage>[-<type>]/<writer>.jsonl`), one answer a line, flushed to the
operating system line by line: what was answered survives the death of every process. The fold (spark/ledger.py)
brings whole lines into `silver.completions` and then removes what it read. A line cut in the middle was never
acknowledged, and is asked again.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from persona_hub.llm.pricing import compute_cost
from persona_hub.llm.requests import Completion
from persona_hub.settings import LlmSettings


def spool_folder(lake: str, slice_key: str, stage: str, data_type: str = "") -> Path:
    return (
        Path(lake)
        / "silver"
        / "_spool"
        / slice_key.replace("/", "_")
        / (stage + (f"-{data_type}" if data_type else ""))
    )


class SpoolWriter:
    """Appends answers as ledger rows; one writer a file, so nobody waits for a lock."""

    def __init__(self, folder: Path, slice_key: str, stage: str, settings: LlmSettings) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fields = {"slice": slice_key, "stage": stage, "model": settings.model}
        self._settings = settings
        self._file: TextIO = (folder / f"{os.getpid()}-{uuid.uuid4().hex}.jsonl").open("a", encoding="utf-8")

    def write(self, completion: Completion) -> None:
        row = asdict(completion)
        row["completion_key"] = row.pop("key")
        row |= self._fields
        row["money"] = compute_cost(completion, self._settings)
        row["answered_at"] = datetime.now(UTC).isoformat()
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_spool(folder: Path) -> tuple[list[dict[str, Any]], dict[Path, int]]:
    """Whole lines of all files of a folder, the first answer of a key only.

    Returns:
        ledger rows, and per file the bytes that were read, for `clear_spool`.
    """
    rows: dict[str, dict[str, Any]] = {}
    sizes: dict[Path, int] = {}
    for file in sorted(folder.glob("*.jsonl")):
        content = file.read_bytes()
        sizes[file] = len(content)
        for line in content.split(b"\n")[:-1]:
            row = json.loads(line)
            row["answered_at"] = datetime.fromisoformat(row["answered_at"])
            rows.setdefault(row["completion_key"], row)
    return list(rows.values()), sizes


def clear_spool(sizes: dict[Path, int]) -> None:
    """Removes files that hold nothing but what was read; one that a straggler still writes waits for the next fold."""
    for file, size in sizes.items():
        if file.stat().st_size == size:
            file.unlink()


def count_spooled(folder: Path) -> int:
    """Answers so far, for the progress line."""
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl"))
