"""Ours over one crawl file without Spark, as one of its workers reads it: `peer_pages.py OUT WARM_FILE FILE`.

The file is fetched, read, judged by all page rules and staged as Parquet. JSON on stdout, as peer_datatrove.py.
"""

from __future__ import annotations

import json
import sys
import time

import pyarrow.parquet as pq

from persona_hub.core.page_judge import PageJudge
from persona_hub.crawl.calendar import SlicePlan
from persona_hub.crawl.files import make_access
from persona_hub.crawl.reading import FilePlan, stage_file
from persona_hub.crawl.staging import open_staging
from persona_hub.settings import load_settings


def main(out: str, warm: str, file: str) -> None:
    settings = load_settings({"PERSONA_HUB_HOME": out})
    access, judge = make_access(settings), PageJudge(settings.crawl, frozenset())
    plan = SlicePlan("CC-MAIN-2020-50/00001", "/", ((0, warm.lstrip("/")), (1, file.lstrip("/"))))
    staging = open_staging(settings.lake, plan, settings.crawl, frozenset())
    files = [FilePlan(plan.key, plan.base, number, path) for number, path in plan.files]
    stage_file(staging, files[0], access, judge)
    print("ready", flush=True)
    sys.stdin.readline()
    begun, cpu = time.monotonic(), time.process_time()
    stage_file(staging, files[1], access, judge)
    measured = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - begun}
    rules = pq.read_table(staging.pages_path(1), columns=["rule"])["rule"]
    print(json.dumps(measured | {"records": len(rules), "kept": rules.null_count}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
