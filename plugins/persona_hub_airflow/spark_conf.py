"""What every driver is started with. A cluster's own sizes come from the connection (spark.py)."""

from __future__ import annotations

import sys

from persona_hub.settings import Settings


def driver_conf(settings: Settings) -> dict[str, str]:
    """Spark's configuration for one job of this platform; made when the task runs, not when its DAG is parsed."""
    jars = str(settings.home / "jars" / "*")
    return {
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # A slice is small: the 200 and 50 partitions that come with Spark and Delta cost more than the rows.
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(settings.home / "run" / "warehouse"),
        # A worker whose task is given up first brings its paid answers home: calls of up to a time limit are out.
        "spark.python.task.killTimeout": "300s",
        "spark.ui.enabled": "false",
        "spark.log.level": "WARN",
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": _java_options(settings),
        "spark.pyspark.python": sys.executable,
    }


def _java_options(settings: Settings) -> str:
    """Starting is most of what a small job pays: no parallel collector, one compiler, classes from an archive."""
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    archive = settings.home / "cds" / "spark.jsa"
    if archive.is_file():
        options += ["-Xshare:auto", f"-XX:SharedArchiveFile={archive}"]
    return " ".join(options)
