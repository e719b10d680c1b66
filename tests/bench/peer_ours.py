"""Ours as a peer: a partition of the stage without Spark, `peer_ours.py URL WINDOW COUNT FOLDER`; resumes by its spool."""

from __future__ import annotations

import sys
from pathlib import Path

from ask_worker import FIELDS, make_requests

from persona_hub.settings import load_settings
from persona_hub.spark.calling import CallPlan, call_partition


def main(url: str, window: int, count: int, folder: Path) -> None:
    settings = load_settings(
        {
            "PERSONA_HUB_HOME": str(folder),
            "PERSONA_HUB_LLM__BASE_URL": url,
            "PERSONA_HUB_LLM__MODEL": "m",
            "PERSONA_HUB_LLM__WINDOW": str(window),
        }
    )
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    plan = CallPlan(settings.lake, spool, FIELDS, settings.llm, ("seed",), None, settings.budget, "S/1/bench")
    rows = ({"completion_key": request.key, "request": request.to_json()} for request in make_requests(0, count))
    call_partition(plan, rows, "p00000")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
