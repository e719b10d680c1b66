"""Who stays, over DataFrames: the rule of `dedup.survivors`, on the driver for the usual corpus, in Spark for any."""

from __future__ import annotations

from pyspark.sql import DataFrame

from persona_hub.spark.survivor_graphs import choose_from_tables
from persona_hub.spark.survivor_rounds import choose_in_spark

MAX_PAIRS_ON_DRIVER = 1_500_000  # edges and members of groups; with the ids of their rows some 700 MB


def choose_survivors(rows: DataFrame, groups: DataFrame, edges: DataFrame) -> DataFrame:
    """Applies the survivor rule to what all steps found: on the driver where that is small enough, else in Spark.

    Args:
        rows: row BIGINT, publication BIGINT (null: not published yet, ranks after all numbers), text_hash, row_id,
            is_stored BOOLEAN (kept whatever its rank); every row that stands in a group or an edge, numbers distinct.
        groups: step INT, row BIGINT, representative BIGINT; members of groups of more than one row, all similar to one
            another (1.0). The representative may be listed or not; a row that is not is its own.
        edges: step INT, a BIGINT, b BIGINT (representatives), similarity DOUBLE; all members of two groups are
            similar. Each pair once.

    All are read several times: give what is stored or checkpointed.

    Returns:
        row BIGINT, row_id, survivor_id, step INT, similarity DOUBLE; one for each removed row.
    """
    if edges.unionByName(groups, allowMissingColumns=True).count() <= MAX_PAIRS_ON_DRIVER:
        return choose_on_driver(rows, groups, edges)
    return choose_in_spark(rows, groups, edges, MAX_PAIRS_ON_DRIVER)


def choose_on_driver(rows: DataFrame, groups: DataFrame, edges: DataFrame) -> DataFrame:
    """`choose_survivors` by arrays on the driver."""
    known = rows.select("row", "publication", "text_hash", "row_id", "is_stored").toArrow()
    return rows.sparkSession.createDataFrame(choose_from_tables(known, groups.toArrow(), edges.toArrow()))
