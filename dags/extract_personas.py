"""### Personas from one slice of a web crawl

Makes `gold.personas`: reads the pages of a crawl slice, asks the model who would read or write each page,
removes duplicates, checks what is left, and publishes it in one commit. `synthesize_tasks` follows
under the same key.

**A slice is the partition**, such as `CC-MAIN-2026-30/00012`. Each night takes the next slice of the newest
snapshot in the crawl calendar (which `refresh_crawls` fills), then the tail of those before. Trigger a slice by its
key (Trigger, *Partition key*, or REST); run a part of a snapshot with `airflow backfill create --dag-id extract_personas --from-date … --to-date …`:
a slice's date is the end date of its snapshot plus its number in seconds. A slice that runs again replaces its own
rows and asks the model nothing new.

**When it fails**

| task | look for | then |
| --- | --- | --- |
| any | `There is no connection …` | create it with the command in the log, clear the task |
| `ingest_pages` | `… of … files … cannot be read`, each with its reason, in `ops.failed_files` too | mend the source, clear the task: only those that are missing are read; or raise `PERSONA_HUB_CRAWL__MAX_FAILED_SHARE` |
| `ingest_pages` | `waiting for a turn at …` | other runs read from that host too: wait, or raise `PERSONA_HUB_CRAWL__MAX_CONNECTIONS` with the host's people agreeing |
| `estimate_candidates` | the budget that would be passed, with its figures; the link *Estimate* | raise the setting that it names, or ask less, and clear the task |
| `batch_candidates` | what the endpoint says of the batch or its file | mend what it names, clear the task; batches that were paid for are found again |
| `extract_candidates` | the endpoint's answer: down, wrong key, wrong model | mend `persona_hub_llm`, clear the task; answers that arrived are kept |
| `extract_candidates` | `BudgetReached` | what was bought is kept: raise the setting that it names, or wait for the next day or month, and clear the task |
| `deduplicate_personas` | memory | a larger `spark.driver.memory` in the connection `spark_default`, extra `conf` |
| `publish_personas` | the expectation that failed, what was seen, the link *Data Docs* | nothing was published: fix the cause, or set the limit, and clear from `extract_candidates` |

`estimate_candidates` says what the slice will cost before the first call; its link *Estimate* has the figures.
`batch_candidates` is there where `PERSONA_HUB_BATCH__STAGES` names `extract_candidates`: it asks at the batch discount,
and holds a place in the pool `llm` meanwhile.

`report_personas` runs in any case and logs the funnel: rows in, rows out, and which rule removed the rest.
"""

from __future__ import annotations

from airflow.sdk import DAG, chain, task

from persona_hub.settings import load_settings
from persona_hub.stages import EXTRACT
from persona_hub_airflow.assets import PERSONAS
from persona_hub_airflow.batch import BatchOperator
from persona_hub_airflow.estimate import EstimateOperator
from persona_hub_airflow.links import GatedSparkOperator
from persona_hub_airflow.report import SLICE_ARGS, log_funnel
from persona_hub_airflow.spark import PersonaHubSparkOperator, retry_policy
from persona_hub_airflow.timetable import CrawlSliceTimetable

settings = load_settings()

with DAG(
    "extract_personas",
    schedule=CrawlSliceTimetable(settings.calendar),
    catchup=False,
    max_active_runs=2,
    default_args=retry_policy(settings),
    doc_md=__doc__,
    tags=["persona_hub"],
):

    @task
    def report_personas() -> None:
        log_funnel()

    def run_job(
        job: str, operator: type[PersonaHubSparkOperator] = PersonaHubSparkOperator, **kwargs: object
    ) -> PersonaHubSparkOperator:
        return operator(task_id=job, job=job, job_args=SLICE_ARGS, **kwargs)

    chain(
        run_job("ingest_pages"),
        EstimateOperator(task_id="estimate_candidates", stage=EXTRACT),
        *([BatchOperator(task_id="batch_candidates", stage=EXTRACT)] if EXTRACT in settings.batch.stages else []),
        run_job(EXTRACT, uses_model=True),
        run_job("deduplicate_personas"),
        run_job("publish_personas", GatedSparkOperator, outlets=[PERSONAS]),
        # A teardown: it runs whatever happened before, and does not make a failed run look like a success.
        report_personas().as_teardown(),
    )
