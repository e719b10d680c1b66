"""What a stage has yet to ask: read without Spark, for those who estimate it and those who send it as a batch."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pyarrow.dataset as ds

from persona_hub.llm.requests import Request
from persona_hub.llm.spool import read_spool, spool_folder
from persona_hub.settings import Settings
from persona_hub.stages import CallingStage
from persona_hub.tables.scan import scan_table
from persona_hub.tables.silver import COMPLETIONS

_KEY_WORDS = 4  # a SHA-256 has so many of eight bytes


def iter_pending(
    settings: Settings, slice_key: str, stage: CallingStage, *, everywhere: bool = False, at_most: int | None = None
) -> Iterator[Request]:
    """The first asking of each question that no endpoint of the stage has answered, each key once.

    Memory holds eight bytes of each known key, and a batch of rows.

    Args:
        settings: lake, endpoints, and how many rows are asked about.
        slice_key: as in CC-MAIN-2026-30/00012.
        stage: who asks.
        everywhere: whether an answer that another slice paid for counts, too: that reads the keys of the whole
            ledger, where the slice's part is enough for an estimate.
        at_most: of the rows that are asked about only so many, chosen by hash.
    """
    known = _read_keys(settings, slice_key, stage, everywhere)
    for request, *others in iter_questions(settings, slice_key, stage, at_most):
        if not any(asked.key in known for asked in (request, *others)):
            yield request
        known.add(request.key)


def iter_questions(
    settings: Settings, slice_key: str, stage: CallingStage, at_most: int | None = None
) -> Iterator[tuple[Request, ...]]:
    """What is asked about each source row of the slice, as it is put to each of the stage's endpoints in turn."""
    endpoints = settings.llm.for_stage(stage.name, stage.data_type)
    wanted = _choose_rows(settings, slice_key, stage, at_most)
    for row_id, text in _iter_rows(settings, slice_key, stage, stage.id_column, stage.text_column):
        if wanted is None or row_id in wanted:
            yield tuple(stage.build(text, endpoint) for endpoint in endpoints)


def count_questions(settings: Settings, slice_key: str, stage: CallingStage) -> int:
    """Rows of the slice that the stage asks about."""
    rows, limit = sum(1 for _ in _iter_rows(settings, slice_key, stage, stage.id_column)), stage.limit(settings)
    return rows if limit is None else min(rows, limit)


def _choose_rows(settings: Settings, slice_key: str, stage: CallingStage, at_most: int | None) -> set[str] | None:
    """Ids of the rows asked about, the first by hash; None for all."""
    limits = [limit for limit in (stage.limit(settings), at_most) if limit is not None]
    if not limits:
        return None
    ids = (row_id for (row_id,) in _iter_rows(settings, slice_key, stage, stage.id_column))
    return set(heapq.nsmallest(min(limits), ids, key=stage.order_by_hash))


def _iter_rows(settings: Settings, slice_key: str, stage: CallingStage, *columns: str) -> Iterator[tuple[str, ...]]:
    for batch in scan_table(settings.lake, stage.source, columns, ds.field("slice") == slice_key):
        yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)


class _KnownKeys:
    """Eight bytes of each key. Of a million questions, one is wrongly taken for answered by ten million answers once in
    two million times: the stage itself, which compares whole keys, asks it then."""

    def __init__(self, hexadecimals: Iterable[list[str]]) -> None:
        wholes = (np.frombuffer(bytes.fromhex("".join(keys)), ">u8") for keys in hexadecimals)
        self._sorted = np.sort(np.concatenate([np.empty(0, "u8"), *(one[::_KEY_WORDS].astype("u8") for one in wholes)]))
        self._added: set[int] = set()

    def __contains__(self, key: str) -> bool:
        wanted = int(key[:16], 16)
        place = int(np.searchsorted(self._sorted, np.uint64(wanted)))
        return wanted in self._added or (place < len(self._sorted) and int(self._sorted[place]) == wanted)

    def add(self, key: str) -> None:
        self._added.add(int(key[:16], 16))


def _read_keys(settings: Settings, slice_key: str, stage: CallingStage, everywhere: bool) -> _KnownKeys:
    """Keys in the ledger, and in what a killed run has left in the stage's spool."""
    rows, _ = read_spool(spool_folder(settings.lake, slice_key, stage.name, stage.data_type))
    where = None if everywhere else ds.field("slice") == slice_key
    batches = scan_table(settings.lake, COMPLETIONS, ["completion_key"], where)
    in_ledger = (batch["completion_key"].to_pylist() for batch in batches)
    return _KnownKeys(chain([[row["completion_key"] for row in rows]], in_ledger))
