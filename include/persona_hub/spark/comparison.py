"""One comparison: rows of a corpus among themselves and with stored ones, step by step; one rule chooses."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from persona_hub.spark import decision
from persona_hub.spark.blocks import measure_blocks
from persona_hub.spark.outcome import Outcome, Step
from persona_hub.spark.pairs import Pairs
from persona_hub.spark.signatures import Corpus, Signed
from persona_hub.spark.wide_decision import decide_in_spark

_ROWS_PER_SHUFFLE = 500_000


def compare(
    corpus: Corpus, new: DataFrame, stored: DataFrame | None, steps: Sequence[Step], signed: Sequence[Signed],
    stored_signed: Sequence[DataFrame | None], *, sample: bool,
) -> Outcome:  # fmt: skip
    """Finds the new rows that must go.

    Args:
        new, stored: columns row_id, text, text_hash, publication (null: not published yet).
        signed, stored_signed: their signatures, for each step; the latter of rows that are not there any more, too.
        sample: whether the recall of steps that may miss pairs is measured.
    """
    sizes = [measure_blocks(own.blocks) for own in signed]
    _size_session(corpus.spark, max(size.rows for size in sizes))
    found, seconds = [], []
    for step, own, size, others in zip(steps, signed, sizes, stored_signed, strict=True):
        clock = time.monotonic()
        found.append(step.find(own, size, others))
        seconds.append(time.monotonic() - clock)
    if sum(_count(pairs) for both in found for pairs in both) <= decision.PAIRS_HERE:
        here = [(_collect(similar), _collect(candidates)) for similar, candidates in found]
        return decision.decide_here(corpus, new, stored, steps, here, seconds, sample=sample)
    return decide_in_spark(corpus, new, stored, steps, found, seconds, sample=sample)


def _size_session(spark: SparkSession, rows: int) -> None:
    """A driver is started for small slices."""
    spark.conf.set("spark.sql.shuffle.partitions", str(max(2, rows // _ROWS_PER_SHUFFLE)))


def _count(pairs: Pairs) -> int:
    if pairs is None:
        return 0
    return pairs.count() if isinstance(pairs, DataFrame) else len(pairs)


def _collect(pairs: Pairs) -> pa.Table | None:
    return pairs.toArrow() if isinstance(pairs, DataFrame) else pairs
