"""The spool: each answer is durable before anything else happens to it.

One file per writer in `<lake>/silver/_spool/<slice>/<stage>[-<type>]/`, one answer a line, flushed to the operating
system line by line: what was answered survives the death of every process. A writer holds a lock (flock) on its file
for as long as its process lives, so whoever comes next knows whether a killed run's last calls are still out, and waits
for them. The fold (spark/ledger.py) brings whole lines into `silver.completions` and then removes what it read.
A line cut in the middle was never acknowledged, and is asked again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from persona_hub.errors import LakeError, LeaseHeld
from persona_hub.llm.pricing import Price, compute_cost
from persona_hub.llm.requests import Completion

log = logging.getLogger(__name__)
VERSION = 2
STATUS = ".status"
TEXTS = ("text", "error", "answered_by", "finish_reason")
# What lines of version 1 did not hold yet.
ADDED = {"data_type": "", "run_id": "", "prompt_hash": "", "reasoning_tokens": None, "maybe_paid": 0}


def spool_folder(lake: str, slice_key: str, stage: str, data_type: str = "") -> Path:
    name = stage + (f"-{data_type}" if data_type else "")
    return Path(lake) / "silver" / "_spool" / slice_key.replace("/", "_") / name


class SpoolWriter:
    """Appends answers as ledger rows; one writer a file, so nobody waits for a lock.

    Args:
        folder: of the stage.
        fields: the columns slice, stage, data_type, run_id, prompt_hash and model of every row.
        price: of the model, where it is known.
        batch: whether the answers were bought at the batch discount.
        name: how the file's name begins; a task's number, so that a second try finds what the first one wrote.
    """

    def __init__(
        self, folder: Path, fields: dict[str, str], price: Price | None, *, batch: bool = False, name: str = "w"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fields, self._price, self._batch = {"v": VERSION} | fields, price, batch
        self.money: float | None = 0.0 if price else None  # of what was written, as far as it is known
        self.path = folder / f"{name}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        scratch = self.path.with_suffix(".new")
        self._file = scratch.open("ab", buffering=0)
        self._end = 0
        fcntl.flock(self._file, fcntl.LOCK_EX)
        scratch.rename(self.path)  # never seen without its lock

    def write(self, completion: Completion) -> None:
        row: dict[str, Any] = dict(vars(completion))  # flat: asdict would copy deeply, for half the cost of a write
        row["completion_key"] = row.pop("key")
        row |= self._fields
        row["money"] = compute_cost(completion, self._price, batch=self._batch)
        if row["money"] is not None and self.money is not None:
            self.money += row["money"]
        row["answered_at"] = datetime.now(UTC).isoformat()
        line = memoryview((json.dumps(row) + "\n").encode())
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            os.ftruncate(self._file.fileno(), self._end)  # the next line must not be glued to half of this one
            raise
        self._end = self._file.tell()

    def sync(self) -> None:
        """Brings it to the disk: what a loss of power could take is what came after."""
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        self._file.close()


def wait_for_writers(folder: Path, timeout_s: float, name: str = "") -> None:
    """Waits until nobody writes to the folder's files whose names begin so: orphans of a killed run, above all.

    Raises:
        LeaseHeld: somebody still does after `timeout_s`; says who.
    """
    deadline, told = time.monotonic() + timeout_s, False
    while alive := [file.name for file in list_files(folder) if file.name.startswith(name) and _is_held(file)]:
        if time.monotonic() > deadline:
            raise LeaseHeld(
                f"{len(alive)} processes still bring answers home to {folder}: {', '.join(alive)}",
                wanted=f"them to end within {timeout_s:.0f} s (name-host-process-…)",
                cure="end these processes, or wait; what they write is kept",
            )
        if not told:
            log.info("waiting for %d processes of an earlier try that bring answers home: %s", len(alive), alive)
            told = True
        time.sleep(0.2)


def list_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """A file's whole lines as ledger rows. Lines that are none are kept in `<file>.broken`, beside it.

    Raises:
        LakeError: a newer version of this software wrote it.
    """
    broken = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                row["answered_at"] = datetime.fromisoformat(row["answered_at"])
                key = row["completion_key"]
            except (ValueError, KeyError, TypeError):
                broken.append(line)
                log.warning("line %d of %s is no answer; it is kept in %s.broken", number, file, file.stem)
                continue
            if (version := row.pop("v", 1)) > VERSION:
                raise LakeError(
                    f"{file} holds answers of version {version} (line {number}, {key})",
                    wanted=f"version {VERSION} or older",
                    cure="run a newer version of the software on this lake; nothing was removed",
                )
            yield ADDED | row | {name: _repair(row.get(name)) for name in TEXTS}
    if broken:
        file.with_suffix(".broken").write_bytes(b"".join(broken))


def read_spool(folder: Path, name: str = "") -> tuple[list[dict[str, Any]], list[Path]]:
    """Whole lines of the folder's files whose names begin so, the first answer of a key only, and the files."""
    files = [file for file in list_files(folder) if file.name.startswith(name)]
    rows: dict[str, dict[str, Any]] = {}
    for row in (row for file in files for row in read_lines(file)):
        rows.setdefault(row["completion_key"], row)
    return list(rows.values()), files


def clear_spool(folder: Path, files: list[Path]) -> None:
    """Removes files that the fold has brought home, what writers said of themselves, and the folder, if that is all."""
    for file in (*files, *folder.glob(f"*{STATUS}")):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _repair(text: str | None) -> str | None:
    """Half of a surrogate pair is no character that UTF-8 could hold."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_held(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False
