"""From candidate pairs to removals by arrays on the driver, where they are few: for most slices, and most hubs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import reduce
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.lookup import is_among
from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.embeddings import read_vectors
from persona_hub.spark.outcome import Outcome, Step, tell_recall
from persona_hub.spark.signatures import Corpus, number_rows
from persona_hub.spark.survivor_graphs import choose_from_tables

log = logging.getLogger(__name__)

PAIRS_HERE = 150_000  # whose rows bring 50 MB of personas, 300 MB of samples or 250 MB of vectors to the driver
_VERIFIED_AT_ONCE = 20_000
_SIMILAR = ["a", "b", "identical", "similarity"]
_ROWS = pa.schema(
    [
        ("row", pa.int64()), ("row_id", pa.string()), ("text", pa.string()), ("text_hash", pa.string()),
        ("publication", pa.int64()), ("is_stored", pa.bool_()),
    ]
)  # fmt: skip
_VERIFIED = pa.schema(
    [("a", pa.int64()), ("b", pa.int64()), ("identical", pa.bool_()), ("sampled", pa.bool_()), ("similarity", pa.float64())]
)  # fmt: skip

Pairs: TypeAlias = pa.Table | None


def decide_here(
    corpus: Corpus, new: DataFrame, stored: DataFrame | None, steps: Sequence[Step], found: Sequence[tuple[Pairs, Pairs]],
    seconds: list[float], *, sample: bool,
) -> Outcome:  # fmt: skip
    """Verifies what the steps have found, and chooses who stays.

    Args:
        found: similar pairs and candidates, of each step.
        seconds: that each step has taken so far.

    The others are as for `comparison.compare`.
    """
    paired = _unique([pairs for both in found for pairs in both if pairs is not None])
    rows = _fetch_rows(corpus, new, stored, paired)
    graphs, events = [], []
    for place, (step, (similar, candidates)) in enumerate(zip(steps, found, strict=True)):
        clock = time.monotonic()
        verified = _verify(corpus, step, candidates, rows)
        every = verified.filter(pc.invert(verified["sampled"])).select(_SIMILAR)
        if similar is not None:
            every = pa.concat_tables([every, similar.select(_SIMILAR)])
        measured = sample and isinstance(step, CellStep)
        events.append(_measure_recall(verified.filter(verified["sampled"]), every) if measured else {})
        graphs.append(every.append_column("step", pa.array(np.full(len(every), place, np.int32))))
        seconds[place] += time.monotonic() - clock
        log.info("%s: %d similar pairs in %.1f s%s", step.stage, len(every), seconds[place], tell_recall(events[-1]))
    joined = pa.concat_tables(graphs)
    same = joined["identical"]
    groups = joined.filter(same).rename_columns({"b": "row", "a": "representative"})
    gone = choose_from_tables(rows.drop_columns(["text"]), groups, joined.filter(pc.invert(same)))
    removed = np.bincount(gone["step"].to_numpy(), minlength=len(steps))
    return Outcome(corpus.spark.createDataFrame(gone), [int(count) for count in removed], seconds, events)


def _unique(pairs: Sequence[pa.Table]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([np.empty(0, np.int64), *(some[end].to_numpy() for some in pairs for end in "ab")]))


def _fetch_rows(corpus: Corpus, new: DataFrame, stored: DataFrame | None, paired: NDArray[np.int64]) -> pa.Table:
    """The rows that stand in pairs, where they are still there, by number."""
    if not len(paired):
        return _ROWS.empty_table()
    ids = F.broadcast(corpus.spark.createDataFrame(pa.table({"row": paired})))
    frames = [new.withColumn("is_stored", F.lit(False))]
    if stored is not None:
        frames.append(stored.withColumn("is_stored", F.lit(True)))
    found = [number_rows(frame).join(ids, on="row", how="left_semi").select(*_ROWS.names) for frame in frames]
    return reduce(DataFrame.unionByName, found).toArrow().cast(_ROWS).sort_by("row")


def _verify(corpus: Corpus, step: Step, candidates: Pairs, rows: pa.Table) -> pa.Table:
    """The similar ones of candidate pairs whose rows are there: a, b, identical, sampled, similarity."""
    if candidates is None or not len(candidates):
        return _VERIFIED.empty_table()
    content, name = rows, "text"
    if isinstance(step, CellStep):
        wanted = corpus.spark.createDataFrame(rows.select(["row", "row_id", "text_hash"]))
        content, name = read_vectors(corpus, F.broadcast(wanted), step.model).toArrow().sort_by("row"), "vector"
    known = content["row"].to_numpy()
    columns = {column: content[column].combine_chunks() for column in ("text_hash", name)}
    there = [is_among(candidates[side].to_numpy(), known) for side in ("a", "b")]
    verified = []
    for pairs in candidates.filter(pa.array(there[0] & there[1])).combine_chunks().to_batches(_VERIFIED_AT_ONCE):
        sides = {
            f"{column}_{side}": values.take(pa.array(np.searchsorted(known, pairs[side].to_numpy())))
            for side in ("a", "b") for column, values in columns.items()
        }  # fmt: skip
        batch = {column: pairs[column] for column in pairs.schema.names} | sides
        verified.append(step.verify_batch(pa.RecordBatch.from_pydict(batch)))
    return pa.Table.from_batches(verified, _VERIFIED)


def _measure_recall(sample: pa.Table, similar: pa.Table) -> dict[str, int]:
    """How many similar pairs of a sample that was compared with everything the cells have found too."""
    same = similar.filter(similar["identical"])
    first = dict(zip(same["b"].to_pylist(), same["a"].to_pylist(), strict=True))
    near = similar.filter(pc.invert(similar["identical"]))
    known = {frozenset(pair) for pair in zip(near["a"].to_pylist(), near["b"].to_pylist(), strict=True)}
    ends = zip(sample["a"].to_pylist(), sample["b"].to_pylist(), strict=True)
    wanted = {frozenset((first.get(a, a), first.get(b, b))) for a, b in ends}
    wanted = {pair for pair in wanted if len(pair) == 2}
    return {"recall_pairs": len(wanted), "recall_found": len(wanted & known)}
