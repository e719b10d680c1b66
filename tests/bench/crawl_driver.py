"""A driver that reads the same crawl files by turns: ours in its executors, then the loops beside which it is measured.

`crawl_driver.py RESULT PLAN`, the plan as JSON: base, files (their records), warm (a small file, read before each
turn of ours, so that no worker imports while it is measured), loops, repeats, python (of the peers), records. What is
measured of ours is the staging of `ingest_pages` as it goes: fetched, read, judged and written by Spark's workers, once
with a judge that finds the language alone and once with all page rules.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from crawl_judge import LanguageJudge
from crawl_peers import run_loop
from pyspark.sql import SparkSession

from persona_hub.core.page_judge import PageJudge
from persona_hub.crawl.calendar import SlicePlan
from persona_hub.crawl.staging import open_staging
from persona_hub.settings import load_settings
from persona_hub.spark import ingest
from persona_hub.spark.job import Job

JUDGES = {"language": LanguageJudge, "rules": PageJudge}


def find_cpu_s() -> dict[str, float]:
    """CPU time so far of Spark's Python workers, those that have ended included, and of the JVM."""
    jvm = psutil.Process(os.getppid())
    own = jvm.cpu_times()
    workers = 0.0
    for process in jvm.children(recursive=True):
        with suppress(psutil.Error):  # a worker that is just ending
            if "pyspark.daemon" in process.cmdline():
                used = process.cpu_times()
                workers += used.user + used.system + used.children_user + used.children_system
    return {"workers": workers, "jvm": own.user + own.system}


def stage_files(job: Job, base: str, files: list[str]) -> dict[str, float]:
    """Brings the files into a new staging; what that took."""
    plan = SlicePlan(job.slice, base, tuple(enumerate(files)))
    with tempfile.TemporaryDirectory(dir=job.settings.home) as lake:
        staging = open_staging(lake, plan, job.settings.crawl, frozenset())
        before, begun = find_cpu_s(), time.monotonic()
        ingest.read_files(job, plan, staging, frozenset())
        wall, after = time.monotonic() - begun, find_cpu_s()
        reports, failures = ingest.read_results(plan, staging)
    assert not failures, failures
    cpu = {f"{name}_cpu_s": after[name] - before[name] for name in after}
    return {"records": sum(report.pages for report in reports.values()), "wall_s": wall, **cpu}


def main(result: Path, plan: dict[str, Any]) -> None:
    settings = load_settings()
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(asctime)s %(message)s")
    spark = SparkSession.builder.appName("bench of reading").getOrCreate()
    job = Job("bench", "CC-MAIN-2020-50/00001", "run 1", 1, "", settings, spark)
    turns: dict[str, list[Any]] = {name: [] for name in [*JUDGES, *plan["loops"]]}
    paths = [str(Path(plan["base"], file)) for file in plan["files"]]
    for _ in range(plan["repeats"]):
        for name, judge in JUDGES.items():
            ingest.PageJudge = judge
            stage_files(job, plan["base"], [plan["warm"]] * 4)
            turns[name].append(stage_files(job, plan["base"], plan["files"]))
        for loop in plan["loops"]:
            warm = Path(plan["base"], plan["warm"])
            turns[loop].append(run_loop(plan["python"], loop, paths, settings.home, warm))
        result.write_text(json.dumps(turns))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
