"""What of a stage's questions lies in a batch: written down before it is asked for, so that nothing is bought twice.

A folder per slice and stage (`<lake>/silver/_batches/<slice>/<stage>[-<type>]`) holds two files per batch:

    <id>.requests.jsonl   the file for the endpoint, one request a line, its completion key as `custom_id`; never changed
    <id>.json             an `Intent`: how far it has come; replaced in one step, and on the disk before the next step

    frozen ── uploaded ── asked for ── submitted ── closed
              file_id     asked_at     batch_id     outcome

From `asked_at` on the endpoint may have been told to work, and the requests are bought: they are in no other batch.
Until then nothing was sent that costs, and an intent may be thrown away. From there to its end the likely money of an
intent counts as spent (llm/spending.py).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from persona_hub.core.whole_file import write_whole
from persona_hub.llm.client import build_body
from persona_hub.llm.requests import Request
from persona_hub.settings import BatchSettings

PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Intent:
    """One batch, whether the endpoint knows of it or not.

    Attributes:
        id: ours.
        address: of the endpoint, without credentials.
        fields: columns of the ledger that all its answers share.
        requests: lines of its file.
        frozen_at: when the file was written.
        file_id: the endpoint's name for the file.
        money: that it will likely cost, at the batch discount; None where the model has no price.
        asked_at: when the batch was last asked for, in seconds since 1970: before, not after.
        refusals: batches of it that the provider made and then refused as a whole, for want of room.
        batch_id: the endpoint's name for the batch.
        outcome: what the batch ended as, once its answers are in the spool.
    """

    id: str
    address: str
    fields: dict[str, str]
    requests: int
    frozen_at: str
    money: float | None = None
    file_id: str | None = None
    asked_at: float | None = None
    refusals: int = 0
    batch_id: str | None = None
    outcome: str | None = None

    @property
    def is_open(self) -> bool:
        return self.outcome is None

    @property
    def mark(self) -> str:
        """What its batch at the endpoint carries as metadata: another one than those that were refused."""
        return f"{self.id}.{self.refusals}"


def iter_asked(lake: str) -> Iterator[Intent]:
    """Those of all stages and slices that were asked for and are not closed. Records of closed ones are not opened."""
    for requests in (Path(lake) / "silver" / "_batches").glob("*/*/*.requests.jsonl"):
        try:
            intent = _read_intent(requests.with_name(requests.name.replace(".requests.jsonl", ".json")))
        except FileNotFoundError:
            continue  # still being frozen, or thrown away
        if intent.is_open and intent.asked_at is not None:
            yield intent


class BatchStore:
    """The intents of one stage over one slice. Whoever writes holds the stage's lease."""

    def __init__(self, lake: str, slice_key: str, stage: str, data_type: str = "") -> None:
        name = stage + (f"-{data_type}" if data_type else "")
        self.folder = Path(lake) / "silver" / "_batches" / slice_key.replace("/", "_") / name

    def list_open(self) -> list[Intent]:
        """The oldest first."""
        found = (_read_intent(file) for file in self.folder.glob("*.json"))
        return sorted((one for one in found if one.is_open), key=lambda one: (one.frozen_at, one.id))

    def list_asked(self) -> list[Intent]:
        """Those that may cost, or have cost already, and are not at home."""
        return [intent for intent in self.list_open() if intent.asked_at is not None]

    def requests_file(self, intent_id: str) -> Path:
        return self.folder / f"{intent_id}.requests.jsonl"

    def record_file(self, intent_id: str) -> Path:
        return self.folder / f"{intent_id}.json"

    def read_keys(self, intent: Intent) -> set[str]:
        with self.requests_file(intent.id).open("rb") as lines:
            return {json.loads(line)["custom_id"] for line in lines}

    def save(self, intent: Intent) -> None:
        """Replaces what was known of it, in one step; on the disk when this returns."""
        write_whole(self.record_file(intent.id), json.dumps(asdict(intent), indent=1), durable=True)
        self._sync_folder()

    def close(self, intent: Intent) -> None:
        """For an intent with an outcome: its record stays, its requests go."""
        self.save(intent)
        self.requests_file(intent.id).unlink(missing_ok=True)

    def discard_unasked(self) -> None:
        """Removes what has cost nothing: pending questions, prompt and settings may be others by now."""
        asked = set()
        for intent in self.list_open():
            if intent.asked_at is None:
                (self.record_file(intent.id)).unlink()
            else:
                asked.add(self.requests_file(intent.id))
        for file in self.folder.glob("*.requests.jsonl"):  # those of a process that died while it froze or closed, too
            if file not in asked:
                file.unlink()

    def freeze(
        self,
        requests: Iterator[Request],
        address: str,
        fields: dict[str, str],
        features: tuple[str, ...],
        limits: BatchSettings,
        money_each: float | None,
    ) -> None:
        """Writes requests to files within the provider's limits; what lies in an open intent is left out.

        A request larger than a whole file is left out, too: the stage asks it by a call.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = self._write_lines(requests, features, limits.max_bytes)
        line = next(lines, None)
        while line is not None:
            intent_id, count, size = uuid.uuid4().hex, 0, 0
            with self.requests_file(intent_id).open("wb") as file:
                while line is not None and count < limits.max_requests and size + len(line) <= limits.max_bytes:
                    file.write(line)
                    count, size = count + 1, size + len(line)
                    line = next(lines, None)
                _sync(file)
            money = None if money_each is None else count * money_each
            self.save(Intent(intent_id, address, fields, count, datetime.now(UTC).isoformat(), money))

    def _write_lines(self, requests: Iterator[Request], features: tuple[str, ...], max_bytes: int) -> Iterator[bytes]:
        frozen = {bytes.fromhex(key) for intent in self.list_open() for key in self.read_keys(intent)}
        for request in requests:
            if (key := bytes.fromhex(request.key)) in frozen:
                continue
            frozen.add(key)
            body = build_body(request, features)
            line = {"custom_id": request.key, "method": "POST", "url": PATH, "body": body}
            written = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            if len(written) <= max_bytes:
                yield written

    def _sync_folder(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def find_open_keys(lake: str, slice_key: str, stage: str, data_type: str = "") -> dict[str, str]:
    """Completion keys that a batch was asked for and has not brought home; to each, which batch and its record.

    What is asked for by a call all the same is paid twice. Reads without the stage's lease, and only what is open.
    """
    store, found = BatchStore(lake, slice_key, stage, data_type), dict[str, str]()
    for intent in store.list_asked():
        name = f"batch {intent.batch_id or f'of intent {intent.id}'} ({store.record_file(intent.id)})"
        try:
            found |= dict.fromkeys(store.read_keys(intent), name)
        except FileNotFoundError:
            continue  # closed meanwhile: what it brought is in the spool
    return found


def _read_intent(record: Path) -> Intent:
    return Intent(**json.loads(record.read_text()))


def _sync(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
