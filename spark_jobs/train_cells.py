"""silver.vector_cells: trains the cells anew where they have become long or uneven. Asks no model."""

from __future__ import annotations

import logging

from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.cell_training import is_due, measure_cells, train_cells
from persona_hub.spark.job import Job, run_job
from persona_hub.spark.personas import open_personas
from persona_hub.tables.lease import hold_lease

log = logging.getLogger("persona_hub")


def train_cells_anew(job: Job, force: bool = False) -> None:
    with hold_lease(job.lake, open_personas(job)[0].table.name):
        corpus, steps = open_personas(job)
        [step] = (step for step in steps if isinstance(step, CellStep))
        cells = measure_cells(corpus, step)
        log.info("cells version %d: %s", step.version, cells)
        if force or is_due(cells, step):
            train_cells(corpus, step, job.run_id)


if __name__ == "__main__":
    run_job(train_cells_anew, options={"force": {"action": "store_true", "help": "train in any case"}})
