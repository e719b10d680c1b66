"""The ledger's two ways: what it knows of a question, and how answers come into it.

The fold is the one way in, for a normal end and after a crash alike: it is idempotent, and a run begins with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.llm.spool import clear_spool, list_files, read_lines, spool_folder, wait_for_writers
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.rows import map_rows
from persona_hub.spark.tables import append_rows, read_table
from persona_hub.stages import CallingStage
from persona_hub.tables.counts import find_last_end
from persona_hub.tables.scan import scan_table
from persona_hub.tables.silver import COMPLETIONS


def find_answers(job: Job, keys: DataFrame, *columns: str) -> DataFrame:
    """The ledger's rows for these keys: of the slice's own part, else the first answer that another slice had.

    Args:
        keys: column completion_key, each once.
        columns: of the ledger, besides the key.

    Returns:
        completion_key and `columns`, kept on the executors. Only if a key is left are other slices looked at, and of
        them the keys only, until it is known which have an answer.
    """
    ledger = read_table(job.spark, job.lake, COMPLETIONS)
    own = ledger.where(F.col("slice") == job.slice).select("completion_key", *columns)
    found = own.join(keys, on="completion_key", how="left_semi").localCheckpoint()
    left = keys.join(found, on="completion_key", how="left_anti").localCheckpoint()
    if left.isEmpty():
        return found
    others = ledger.where(F.col("slice") != job.slice).join(F.broadcast(left), on="completion_key", how="left_semi")
    earliest = F.min_by("slice", F.struct("answered_at", "slice")).alias("slice")
    first = others.groupBy("completion_key").agg(earliest).localCheckpoint()
    slices = [row["slice"] for row in first.select("slice").distinct().collect()]
    theirs = ledger.where(F.col("slice").isin(slices)).join(first, on=["slice", "completion_key"], how="left_semi")
    return found.unionByName(theirs.select("completion_key", *columns)).localCheckpoint()


def fold_spool(job: Job, stage: CallingStage, patience_s: float) -> int:
    """Brings what a stage's spool holds into the ledger, in one commit, and empties it. Safe to repeat after a kill.

    Args:
        patience_s: seconds to wait for processes of an earlier try that still bring answers home.

    Returns:
        answers that the ledger did not have.

    Raises:
        LeaseHeld: such a process is still at it.
    """
    folder = spool_folder(job.lake, job.slice, stage.name, stage.data_type)
    wait_for_writers(folder, patience_s)
    files = list_files(folder)
    count = 0
    if any(file.stat().st_size for file in files):
        paths = job.spark.createDataFrame([(str(file),) for file in files], "path STRING")
        spooled = map_rows(paths, _read_files, COMPLETIONS.schema)
        first = F.min_by(F.struct(*COMPLETIONS.column_names), "answered_at")
        rows = spooled.groupBy("completion_key").agg(first.alias("row")).select("row.*")
        own = read_table(job.spark, job.lake, COMPLETIONS, slice=job.slice).select("completion_key")
        fresh = rows.join(own, on="completion_key", how="left_anti").localCheckpoint()
        count = fresh.count()
        if count:
            append_rows(fresh, job.lake, COMPLETIONS)
    clear_spool(folder, files)
    return count


def _read_files(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in rows:
        yield from read_lines(Path(row["path"]))


def count_calls(job: Job, stage: CallingStage, tally: Tally) -> None:
    """Counts what the stage has bought since it last came to its end: what killed tries paid for included."""
    where = (
        (ds.field("slice") == job.slice)
        & (ds.field("stage") == stage.name)
        & (ds.field("data_type") == stage.data_type)
    )
    if since := find_last_end(job.lake, job.slice, stage.name, stage.data_type):
        where &= ds.field("answered_at") > since
    names = ("prompt_tokens", "completion_tokens", "money", "maybe_paid", "attempts", "error_class")
    events: Counter[str] = Counter()
    for batch in scan_table(job.lake, COMPLETIONS, names, where):

        def add_up(name: str, batch: pa.RecordBatch = batch) -> int | float:
            return pc.sum(batch[name]).as_py() or 0

        tally.calls += batch.num_rows
        tally.prompt_tokens += int(add_up("prompt_tokens"))
        tally.completion_tokens += int(add_up("completion_tokens"))
        if batch["money"].null_count < batch.num_rows:
            tally.money = (tally.money or 0.0) + add_up("money")
        events["unpriced"] += batch["money"].null_count
        events["resent"] += int(add_up("attempts")) - batch.num_rows
        events["maybe_paid"] += int(add_up("maybe_paid"))
        events.update(f"failed_{name}" for name in batch["error_class"].drop_null().to_pylist())
    if tally.money is None:
        del events["unpriced"]  # all of them: there is no price
    tally.events |= {name: number for name, number in events.items() if number}
