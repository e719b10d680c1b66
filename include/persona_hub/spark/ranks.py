"""Which slices the hub consists of, and how their rows rank: what a recomputation starts from."""

from __future__ import annotations

import json

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import LakeError
from persona_hub.spark.job import Job
from persona_hub.spark.personas import select_rows
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.small import read_rows


def count_candidates(candidates: DataFrame) -> dict[str, str]:
    """Slice → what its candidates are, in short: the same for the same texts under the same ids, whatever their order."""
    numbers = candidates.select("slice", F.xxhash64("persona_id", "text_hash").cast("DECIMAL(38,0)").alias("number"))
    sums = numbers.groupBy("slice").agg(F.count("number").alias("rows"), F.sum("number").alias("sum"))
    return {row["slice"]: f"{row['rows']} rows, {row['sum']}" for row in sums.collect()}


def find_slice_numbers(lake: str, now_there: dict[str, str], without: str) -> dict[str, int]:
    """Slices that are in the hub, or would be but for duplicates, and the number of the publication that brought them.

    Of several publications of the same candidates it is the first: a slice that is only run again keeps its rank. 0 for
    a slice that was dropped.

    Args:
        now_there: what the slices' candidates are now, by `count_candidates`.
        without: slice whose candidates do not matter.

    Raises:
        LakeError: a slice has other candidates than it was published with: no gate has seen them yet.
    """
    numbers: dict[str, int] = {}
    published: dict[str, str | None] = {}
    past = read_rows(lake, PUBLICATIONS, filters=[("table_name", "=", PERSONAS.name)])
    for row in sorted(past, key=lambda row: row["publication"]):
        key, manifest = row["slice"], json.loads(row["manifest"])
        if manifest.get("dropped"):
            numbers[key] = 0
        elif not manifest.get("recomputed"):
            brought = manifest.get("candidates")
            if not numbers.get(key) or brought is None or brought != published[key]:
                numbers[key] = row["publication"]
            published[key] = brought
    for key, number in numbers.items():
        if number and key != without and published[key] not in (None, now_there.get(key, "")):
            raise LakeError(
                f"{key} has other candidates than it was published with",
                wanted="candidates that have passed the gate",
                cure=f"let extract_personas publish {key}, or drop it",
            )
    return numbers


def rank_rows(job: Job, candidates: DataFrame, hub: DataFrame, numbers: dict[str, int]) -> DataFrame:
    """Candidates as the engine takes rows: with the number that they were published under, or their slice's."""
    slices = job.spark.createDataFrame(list(numbers.items()), "slice STRING, number BIGINT")
    own = hub.select(F.col("persona_id").alias("row_id"), "text_hash", "publication")
    rows = select_rows(candidates).join(own, on=["row_id", "text_hash"], how="left")
    ranked = rows.join(F.broadcast(slices), on="slice", how="inner")
    return ranked.withColumn("publication", F.coalesce("publication", "number")).drop("number")
