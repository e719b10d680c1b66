"""### What the lake needs once a week

Makes `silver.vector_cells` even again: vectors are compared within cells around centroids, which are trained once on a
sample. As the hub grows cells become long, and comparing slow; `train_cells` then trains new centroids and moves all
vectors into their cells. Where that is not due it does nothing. No model is asked, and no persona changes: which rows
are similar is decided by exact cosine, and the share that the cells find is measured in every run of
`deduplicate_personas`.

Publications wait for the lease of `gold.personas` while it trains. The old cells count until the new ones are whole, so
it may be killed and run again at any point.

**When it fails**

| task | look for | then |
| --- | --- | --- |
| `train_cells` | `Lease … is held by` | a publication or `recompute_hub` works: the next try goes on |
| `train_cells` | memory | a larger `spark.driver.memory` in the connection `spark_default`, extra `conf` |
| `train_cells` | anything else | the old cells are in force: clear the task, or leave it to next week |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from persona_hub.settings import load_settings
from persona_hub_airflow.report import HUB_ARGS
from persona_hub_airflow.spark import PersonaHubSparkOperator, retry_policy

with DAG(
    "maintain_lake",
    # On Sunday at noon, when the night's run is over; and not at once when it is first let run.
    schedule=CronTriggerTimetable("0 12 * * 0", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args=retry_policy(load_settings()),
    doc_md=__doc__,
    tags=["persona_hub"],
):
    PersonaHubSparkOperator(task_id="train_cells", job="train_cells", job_args=HUB_ARGS, per_slice=False)
