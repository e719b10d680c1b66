"""What one comparison found, and how it is told: to the funnel, to the log, to silver.removals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.job import Job, Tally
from persona_hub.spark.word_step import WordStep
from persona_hub.tables.silver import REMOVALS

Step = WordStep | CellStep
BROADCAST_ROWS = 300_000  # texts of rows in pairs: 60 MB; more are shuffled
BROADCAST_IDS = 5_000_000


@dataclass
class Outcome:
    """What one comparison found.

    Attributes:
        removals: columns row, row_id, survivor_id, step (place among the steps), similarity. Kept on the executors.
        removed: rows by step.
        seconds: of each step, without what the steps share.
        events: for the funnel, by step.
    """

    removals: DataFrame
    removed: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    events: list[dict[str, int]] = field(default_factory=list)

    @property
    def gone(self) -> DataFrame:
        """`removals`, to be joined to a whole slice: sent to all tasks where there are not very many."""
        return F.broadcast(self.removals) if sum(self.removed) <= BROADCAST_ROWS else self.removals


def tell_recall(events: dict[str, int]) -> str:
    """For the log."""
    if not events:
        return ""
    return f"; of {events['recall_pairs']} in the sample, {events['recall_found']} were found"


def count_removals(outcome: Outcome, steps: Sequence[Step], rows: int, tallies: Sequence[Tally]) -> None:
    """What each step says in the funnel: what one keeps, the next one gets."""
    for place, tally in enumerate(tallies):
        removed = outcome.removed[place]
        tally.rows_in, tally.rows_out = rows, rows - removed
        tally.removed = {steps[place].rule: removed} if removed else {}
        tally.events, tally.seconds = outcome.events[place], outcome.seconds[place]
        rows -= removed


def shape_removals(
    job: Job, steps: Sequence[Step], outcome: Outcome, new: DataFrame, stages: Sequence[str]
) -> DataFrame:
    """Rows of silver.removals: who is gone, by which step, for whom, how similar.

    Args:
        stages: stage of the funnel that counts each step's removals.
    """
    values: dict[str, list[Any]] = {
        "stage": list(stages),
        "rule": [step.rule for step in steps],
        "threshold": [step.threshold for step in steps],
        "method": [step.label for step in steps],
    }
    chosen = {name: F.array(*map(F.lit, given))[F.col("step")] for name, given in values.items()}
    texts = new.select("row_id", "text", "slice")
    return (
        texts.join(outcome.gone, on="row_id", how="inner")
        .withColumns(chosen)
        .withColumns({"data_type": F.lit(job.data_type), "detail": F.lit(""), "run_id": F.lit(job.run_id)})
        .select(*REMOVALS.column_names)
    )
