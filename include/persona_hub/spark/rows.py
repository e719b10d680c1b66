"""From Arrow batches to plain values and back, for functions of the pure rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType, _parse_datatype_string

BATCH_ROWS = 1_000


def map_rows(
    rows: DataFrame, function: Callable[[Iterator[dict[str, Any]]], Iterable[dict[str, Any]]], schema: str
) -> DataFrame:
    """Runs a generator over the rows of each partition, streaming: memory does not grow with the partition.

    Args:
        rows: input; each row reaches `function` as a dict.
        function: dicts in, dicts out, in any number; runs on executors.
        schema: columns of the result, as Spark DDL.
    """
    parsed = _parse_datatype_string(schema)
    assert isinstance(parsed, StructType)
    arrow = to_arrow_schema(parsed, timezone="UTC")

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        waiting: list[dict[str, Any]] = []
        for row in function(row for batch in batches for row in batch.to_pylist()):
            waiting.append(row)
            if len(waiting) >= BATCH_ROWS:
                yield pa.RecordBatch.from_pylist(waiting, schema=arrow)
                waiting = []
        if waiting:
            yield pa.RecordBatch.from_pylist(waiting, schema=arrow)

    return rows.mapInArrow(run, parsed)
