"""Candidate pairs of word sets by their keys: by arrays on the driver where keys are few, over DataFrames for any number."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from persona_hub.dedup.candidates import WORD_RECORD, find_candidates
from persona_hub.dedup.measures import Measure
from persona_hub.dedup.word_blocks import ROW, pick_words, read_keys, to_word_records
from persona_hub.spark.blocks import (
    Size,
    collect_blocks,
    collect_records,
    count_parts,
    map_parts,
    measure_blocks,
    shuffle_records,
)
from persona_hub.spark.pairs import CANDIDATES, to_candidates

KEYS_HERE = 4_000_000  # of new rows: the driver takes 500 MB for them
BROADCAST_KEYS = 10_000_000  # of new rows; above, the hub's keys are shuffled with it instead of picked by it: 80 MB

Make = Callable[[pa.Buffer], NDArray[Any]]


def count_keys(size: Size) -> int:
    return (size.length - ROW.itemsize * size.rows) // 8


def find_here(new: DataFrame, stored: DataFrame | None, measure: Measure) -> pa.RecordBatch:
    """`find_everywhere` for few keys, by arrays on the driver; one job goes past the stored ones."""
    records = np.concatenate(
        [np.empty(0, WORD_RECORD), *(to_word_records(block, True) for block in collect_blocks(new))]
    )
    if stored is not None:
        picked = collect_records(stored, _pick(stored, np.unique(records["key"])), WORD_RECORD)
        records = np.concatenate([records, picked])
    return _find(records, measure)


def find_everywhere(new: DataFrame, stored: DataFrame | None, measure: Measure, keys: int) -> DataFrame:
    """Candidate pairs with at least one new row, lazily.

    Args:
        new, stored: blocks of signatures.
        keys: of all new rows.

    Returns:
        a, b (rows by number), identical (b's set is that of a, which stands for both in all other pairs), sampled
        (none is).
    """
    pick: Make = partial(to_word_records, is_new=False)
    if stored is not None:
        if keys <= BROADCAST_KEYS:
            pick = _pick(new, np.unique(np.concatenate([read_keys(block) for block in collect_blocks(new)])))
        else:
            keys += count_keys(measure_blocks(stored))
    parts = count_parts(keys * WORD_RECORD.itemsize)
    blocks = shuffle_records(new, partial(to_word_records, is_new=True), _place, parts)
    if stored is not None:
        blocks = blocks.unionByName(shuffle_records(stored, pick, _place, parts))
    return map_parts(blocks, parts, WORD_RECORD, partial(_find, measure=measure), CANDIDATES).dropDuplicates(["a", "b"])


def _find(records: NDArray[Any], measure: Measure) -> pa.RecordBatch:
    found = find_candidates(records, measure)
    return to_candidates(np.concatenate([found.identical, found.near]), identical=len(found.identical))


def _pick(frame: DataFrame, keys: NDArray[np.uint64]) -> Make:
    """Makes records of stored rows, of these keys only."""
    picked = frame.sparkSession.sparkContext.broadcast(keys)
    return lambda block: pick_words(block, picked.value)


def _place(records: NDArray[Any]) -> NDArray[np.uint64]:
    return records["key"] >> np.uint64(40)
