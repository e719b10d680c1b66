"""Starts drivers as Airflow does: spark-submit, with the platform's own configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench_tools import CHECKOUT, HERE

from persona_hub.settings import load_settings
from persona_hub_airflow.spark_conf import driver_conf


def run_driver(script: str, *arguments: object, log: Path, settings: dict[str, str]) -> None:
    """Runs a driver of this folder to its end.

    Args:
        log: what it says is added here.
        settings: its environment's PERSONA_HUB_*.

    Raises:
        RuntimeError: it failed; with the end of its log.
    """
    hub = CHECKOUT / ".hub"
    conf = driver_conf(load_settings({"PERSONA_HUB_HOME": str(hub)}))
    conf["spark.sql.warehouse.dir"] = str(log.parent / "warehouse")
    options = [word for pair in conf.items() for word in ("--conf", "=".join(pair))]
    submit = str(Path(sys.executable).with_name("spark-submit"))
    command = [submit, "--master", "local[2]", *options, str(HERE / script), *map(str, arguments)]
    environment = os.environ | settings | {"PYSPARK_PYTHON": sys.executable, "JAVA_HOME": str((hub / "java").resolve())}
    with log.open("a") as said:
        ended = subprocess.run(command, stdout=said, stderr=said, env=environment, cwd=log.parent, check=False)
    if ended.returncode:
        raise RuntimeError(f"{script} ended with {ended.returncode}: {log.read_text()[-3000:]}")
