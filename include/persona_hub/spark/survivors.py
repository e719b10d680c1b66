"""Who stays, over DataFrames: the rule of `dedup.survivors`, on the driver for the usual corpus, in Spark for any."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup import survivors
from persona_hub.errors import LakeError

MAX_PAIRS_ON_DRIVER = 1_500_000  # edges and members of groups; with the ids of their rows some 700 MB

_PLACE = ["step", "place"]
_COLLISION = (
    "Two rows have the same 64-bit number (xxhash64 of the id), which happens once in 30 hubs of a billion rows",
    "different numbers",
    "look for an id that is there twice; if there is none, take one of the two slices under another snapshot's name",
)
_UNKNOWN = "A group or an edge names a row that is not among the rows"


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
    small = edges.unionByName(groups, allowMissingColumns=True).count() <= MAX_PAIRS_ON_DRIVER
    return (choose_on_driver if small else choose_in_spark)(rows, groups, edges)


def choose_on_driver(rows: DataFrame, groups: DataFrame, edges: DataFrame) -> DataFrame:
    """`choose_survivors` by arrays on the driver."""
    known = rows.select("row", "publication", "text_hash", "row_id", "is_stored").toArrow()
    return rows.sparkSession.createDataFrame(choose_from_tables(known, groups.toArrow(), edges.toArrow()))


def choose_from_tables(rows: pa.Table, groups: pa.Table, edges: pa.Table) -> pa.Table:
    """`choose_survivors` of tables with the same columns.

    Raises:
        LakeError: a group or an edge names a row that is not in `rows`, or two rows have one number.
    """
    # Strings compare by their bytes here as in Spark; null, not published yet, comes last.
    table = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in ("publication", "text_hash", "row_id")]))
    row = table["row"].to_numpy()
    by_number = np.sort(row)
    if (by_number[1:] == by_number[:-1]).any():
        raise LakeError(_COLLISION[0], wanted=_COLLISION[1], cure=_COLLISION[2])
    choice = survivors.choose_survivors(table["is_stored"].to_numpy(), _read_graphs(row, by_number, groups, edges))
    gone = np.flatnonzero(choice.survivors >= 0)
    return pa.table(
        {
            "row": row[gone],
            "row_id": table["row_id"].take(pa.array(gone)),
            "survivor_id": table["row_id"].take(pa.array(choice.survivors[gone])),
            "step": choice.steps[gone].astype(np.int32),
            "similarity": choice.similarities[gone],
        }
    )


def choose_in_spark(rows: DataFrame, groups: DataFrame, edges: DataFrame) -> DataFrame:
    """`choose_survivors` by rounds of joins, each linear in what is undecided; the driver gets what is left at last.

    Rounds are few (`dedup.survivors`): ranks end in a hash, and each round decides most of what was left.
    """
    counted = rows.agg(F.count("row"), F.countDistinct("row")).first()
    if counted is not None and counted[0] != counted[1]:
        raise LakeError(_COLLISION[0], wanted=_COLLISION[1], cure=_COLLISION[2])
    ranked = _number_by_rank(rows)
    ends = edges.select("step", F.explode(F.array("a", "b")).alias("row"))
    itself = groups.select("step", F.col("representative").alias("row")).unionByName(ends)
    listed = groups.select("step", "row", F.col("representative").alias("place"))
    members = (
        listed.unionByName(itself.withColumn("place", F.col("row")))
        .distinct()
        .join(ranked.select("row", "rank", "is_stored"), on="row", how="left")
        .withColumn("rank", F.coalesce("rank", F.raise_error(F.lit(_UNKNOWN)).cast("bigint")))
        .localCheckpoint()
    )
    there = edges.select("step", F.col("a").alias("place"), F.col("b").alias("near"), "similarity")
    back = edges.select("step", F.col("b").alias("place"), F.col("a").alias("near"), "similarity")
    links = there.unionByName(back).localCheckpoint()

    removed = _find_removed(members, links)
    kept = members.join(removed, on="rank", how="left_anti")
    removals = (
        members.join(removed, on="rank", how="left_semi")
        .join(_best_near(kept, links), on=_PLACE, how="inner")
        .where("best < rank")
        .groupBy("rank")
        .agg(F.min_by(F.struct(F.col("best").alias("survivor"), "step", "similarity"), "step").alias("first"))
        .select("rank", "first.*")
    )
    return _name(removals, ranked)


def _number_by_rank(rows: DataFrame) -> DataFrame:
    """The rows with their `rank`: numbers with gaps, in the order of (publication, text_hash, row_id), 0 the best."""
    order = (F.col("publication").asc_nulls_last(), F.col("text_hash"), F.col("row_id"))
    # Sorted partitions follow one another, and these numbers grow within a partition and from one to the next.
    numbered = rows.orderBy(*order).withColumn("rank", F.monotonically_increasing_id())
    return numbered.select("rank", "row", "row_id", "is_stored").localCheckpoint()


def _name(removals: DataFrame, ranked: DataFrame) -> DataFrame:
    """Removals (rank, survivor: a rank too, step, similarity) with the rows' numbers and ids."""
    who = ranked.select("rank", "row", "row_id")
    whom = ranked.select(F.col("rank").alias("survivor"), F.col("row_id").alias("survivor_id"))
    named = removals.join(who, on="rank", how="inner").join(whom, on="survivor", how="inner")
    return named.select("row", "row_id", "survivor_id", "step", "similarity")


def _find_removed(members: DataFrame, links: DataFrame) -> DataFrame:
    """`dedup.survivors.find_removed`.

    Args:
        members: step, place (of a group), row, rank, is_stored.
        links: step, place, near (place of another group); each way.

    Returns:
        rank of each row that goes.
    """
    links = links.select(*_PLACE, "near", F.lit(1.0).alias("similarity"))
    newly_kept, undecided = members.where("is_stored"), members.where("NOT is_stored")
    found = []
    while True:
        nearby = undecided.join(_best_near(newly_kept, links), on=_PLACE, how="inner")
        found.append(nearby.where("best < rank").select("rank").distinct().localCheckpoint())
        undecided = undecided.join(found[-1], on="rank", how="left_anti").localCheckpoint()
        alive = undecided.select(*_PLACE).distinct()
        links = (
            links.join(alive, on=_PLACE, how="left_semi")
            .join(alive.withColumnRenamed("place", "near"), on=["step", "near"], how="left_semi")
            .localCheckpoint()
        )
        if undecided.count() + links.count() // 2 <= MAX_PAIRS_ON_DRIVER:
            found.append(_finish_on_driver(undecided, links))
            return reduce(DataFrame.unionByName, found)
        nearby = undecided.join(_best_near(undecided, links), on=_PLACE, how="inner")
        best = nearby.groupBy("rank").agg(F.bool_and(F.col("best") == F.col("rank")).alias("is_best"))
        best = best.where("is_best").select("rank").localCheckpoint()
        newly_kept = undecided.join(best, on="rank", how="left_semi").localCheckpoint()
        undecided = undecided.join(best, on="rank", how="left_anti").localCheckpoint()


def _best_near(members: DataFrame, links: DataFrame) -> DataFrame:
    """step, place, best: the best rank among these members of the group and of those linked to it; its similarity."""
    own = members.groupBy(*_PLACE).agg(F.min("rank").alias("best"))
    away = own.withColumnRenamed("place", "near").join(links, on=["step", "near"], how="inner")
    both = own.withColumn("similarity", F.lit(1.0)).unionByName(away.select(*_PLACE, "best", "similarity"))
    return both.groupBy(*_PLACE).agg(F.min_by("similarity", "best").alias("similarity"), F.min("best").alias("best"))


def _finish_on_driver(undecided: DataFrame, links: DataFrame) -> DataFrame:
    """rank of those that go, by arrays: no kept row is near any of them, so that they are a problem of their own."""
    members = undecided.select("step", "row", F.col("place").alias("representative"), "rank").toArrow()
    once = links.where("place < near")
    edges = once.select("step", F.col("place").alias("a"), F.col("near").alias("b"), "similarity")
    rows = members.group_by("rank").aggregate([("row", "min")]).sort_by("rank")
    row = rows["row_min"].to_numpy()
    labels = np.union1d(row, members["representative"].to_numpy())
    graphs = _read_graphs(row, labels, members, edges.toArrow())
    gone = survivors.find_removed(np.zeros(len(rows), np.bool_), graphs)
    return undecided.sparkSession.createDataFrame(pa.table({"rank": rows["rank"].filter(pa.array(gone))}))


def _read_graphs(
    rows: survivors.Rows, labels: survivors.Rows, groups: pa.Table, edges: pa.Table
) -> list[survivors.StepGraph]:
    """A graph of each step, from 0.

    Args:
        rows: (n,) rows by rank, the best first.
        labels: (k,) ascending; all rows and all that stands for a group.
        groups, edges: as for `choose_survivors`.
    """
    by_number = np.argsort(rows)
    own = _find(rows, labels)
    last = max((pc.max(table["step"]).as_py() for table in (groups, edges) if len(table)), default=-1)
    graphs = []
    for step in range(last + 1):
        listed, linked = (table.filter(pc.equal(table["step"], step)) for table in (groups, edges))
        numbers = own.copy()
        places = by_number[_find(listed["row"].to_numpy(), rows[by_number])]
        numbers[places] = _find(listed["representative"].to_numpy(), labels)
        pairs = np.stack([_find(linked[end].to_numpy(), labels) for end in ("a", "b")], axis=1)
        graphs.append(survivors.StepGraph(numbers, pairs, linked["similarity"].to_numpy()))
    return graphs


def _find(values: survivors.Rows, ordered: survivors.Rows) -> survivors.Rows:
    """Places of values in an ascending array."""
    places = np.searchsorted(ordered, values)
    if (places == len(ordered)).any() or (ordered[places] != values).any():
        raise LakeError(_UNKNOWN, cure="give every row that stands in a group or an edge")
    return places
