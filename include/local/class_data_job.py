"""What `class_data` runs to see which classes a job needs: a Delta table written, replaced, merged into and read."""

from __future__ import annotations

import sys

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

if __name__ == "__main__":
    table = sys.argv[1]
    spark = SparkSession.builder.getOrCreate()
    rows = spark.range(100).select(
        F.col("id"), (F.col("id") % 2).cast("string").alias("slice"), F.concat(F.lit("row "), F.col("id")).alias("text")
    )
    rows.write.format("delta").mode("overwrite").save(table)
    rows.where("slice = '1'").write.format("delta").mode("overwrite").option("replaceWhere", "slice = '1'").save(table)
    merge = DeltaTable.forPath(spark, table).alias("old").merge(rows.alias("new"), "old.id = new.id")
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    counts = spark.read.format("delta").load(table).groupBy("slice").count().orderBy("slice").collect()
    upper = rows.mapInPandas(lambda frames: frames, rows.schema).count()
    spark.stop()
    if [row["count"] for row in counts] != [50, 50] or upper != 100:
        sys.exit(f"Spark and Delta do not work together here: {counts}, {upper}")
