"""### The crawl calendar, brought up to date

Makes `bronze.crawl_files` and the crawl calendar grow: asks the source (`PERSONA_HUB_CRAWL__SOURCE`) for its list of
snapshots, and enters the lists of files of those that are new. `extract_personas` takes its slices from there, so a
snapshot that is entered today is read from the next night on. A list that has not changed is not fetched again.

What the calendar knows stays: of a list that shrank, changed, or became a login page nothing is taken, the others are
entered, and the task fails with what was found. Trigger the DAG at any time, a run twice does no more than one.
`PERSONA_HUB_CRAWL__KINDS` says which lists are entered (WARC files of a crawl are the snapshot `CC-MAIN-2026-30.warc`),
`PERSONA_HUB_CRAWL__NEWEST` how many snapshots.

**When it fails**

| look for | then |
| --- | --- |
| `PERSONA_HUB_CRAWL__CONTACT` | Common Crawl is asked by nobody without an address: set it, clear the task |
| `collinfo.json … cannot be read` | what it begins with says who answered: a proxy, a login page, another host; correct the source or `PERSONA_HUB_CRAWL__INDEX`, clear the task |
| `The list of … has changed` | the source has altered a snapshot whose slices are known; nothing to mend here, ask its people; the old list is in use |
| `has in line …`, `is empty`, `twice` | that list is none: see to the source; the next run looks again |
| `answered 403`, `429`, `503`, `could not be had` | the host is busy or has had enough of us: the next run goes on; lower `PERSONA_HUB_CRAWL__REQUESTS_PER_SECOND` |
| `calendar.json cannot be read` | restore the file from a copy: it only grows, so an older one is safe |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, task
from airflow.sdk.exceptions import AirflowFailException

from persona_hub.errors import HubError
from persona_hub.settings import load_settings
from persona_hub_airflow.spark import retry_policy

with DAG(
    "refresh_crawls",
    # At one and not before: by its own rules Airflow would run it at once when it is first let run before half past three.
    schedule=CronTriggerTimetable("0 1 * * *", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args=retry_policy(load_settings()),
    doc_md=__doc__,
    tags=["persona_hub"],
):

    @task
    def refresh_calendar() -> None:
        from persona_hub.crawl.refresh import refresh_calendar as refresh  # Arrow and deltalake: not while parsing

        try:
            refresh(load_settings())
        except HubError as error:
            if error.retry_helps:
                raise
            raise AirflowFailException(str(error)) from error

    refresh_calendar()
