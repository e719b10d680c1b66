"""How soon a stage knows that nothing is to be asked, in a large ledger."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from bench_spark import run_driver
from bench_tools import Figure, describe_endpoint, run_endpoint

SLICES, ROWS = 50, 100_000


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real number of rows."""
    rows, figures = max(1_000, int(ROWS * size)), []
    with tempfile.TemporaryDirectory() as folder, run_endpoint() as endpoint:
        result, log = Path(folder, "result.json"), Path(folder, "log")
        settings = describe_endpoint(endpoint) | {"PERSONA_HUB_HOME": folder}
        run_driver("start_driver.py", "make", SLICES, rows, log=log, settings=settings)
        for whose, name in (("own", "all answered in its slice"), ("others", "all answered in other slices")):
            begun = time.monotonic()
            run_driver("start_driver.py", "ask", result, rows, whose, log=log, settings=settings)
            wall_s, run = time.monotonic() - begun, json.loads(result.read_text())
            assert run["answered"] == rows, run
            name = f"{rows:,} questions, {name}, ledger of {SLICES * rows:,}"
            figures += [
                Figure(f"{name}: start", run["seconds"], "s", goal=30, at_most=True),
                Figure(f"{name}: with the session's start", wall_s, "s"),
            ]
        return [*figures, Figure("calls made", endpoint.stats()["calls"], goal=0, at_most=True)]
