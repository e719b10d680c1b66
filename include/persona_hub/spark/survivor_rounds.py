"""Who stays, for any number of pairs: the rule of `dedup.survivors` by rounds of joins."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup import survivors
from persona_hub.spark.survivor_graphs import UNKNOWN, make_collision, read_graphs

_PLACE = ["step", "place"]


def choose_in_spark(rows: DataFrame, groups: DataFrame, edges: DataFrame, few: int) -> DataFrame:
    """`survivors.choose_survivors` by rounds of joins, each linear in what is undecided.

    Rounds are few (`dedup.survivors`): ranks end in a hash, and each round decides most of what was left.

    Args:
        few: rows and edges that the driver takes when no more are undecided.
    """
    counted = rows.agg(F.count("row"), F.countDistinct("row")).first()
    if counted is not None and counted[0] != counted[1]:
        raise make_collision()
    ranked = _number_by_rank(rows)
    ends = edges.select("step", F.explode(F.array("a", "b")).alias("row"))
    itself = groups.select("step", F.col("representative").alias("row")).unionByName(ends)
    listed = groups.select("step", "row", F.col("representative").alias("place"))
    members = (
        listed.unionByName(itself.withColumn("place", F.col("row")))
        .distinct()
        .join(ranked.select("row", "rank", "is_stored"), on="row", how="left")
        .withColumn("rank", F.coalesce("rank", F.raise_error(F.lit(UNKNOWN)).cast("bigint")))
        .localCheckpoint()
    )
    there = edges.select("step", F.col("a").alias("place"), F.col("b").alias("near"), "similarity")
    back = edges.select("step", F.col("b").alias("place"), F.col("a").alias("near"), "similarity")
    links = there.unionByName(back).localCheckpoint()

    removed = _find_removed(members, links, few)
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


def _find_removed(members: DataFrame, links: DataFrame, few: int) -> DataFrame:
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
        if undecided.count() + links.count() // 2 <= few:
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
    graphs = read_graphs(row, labels, members, edges.toArrow())
    gone = survivors.find_removed(np.zeros(len(rows), np.bool_), graphs)
    return undecided.sparkSession.createDataFrame(pa.table({"rank": rows["rank"].filter(pa.array(gone))}))
