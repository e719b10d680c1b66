"""The last task of a DAG: the funnel of its slice, in the log."""

from __future__ import annotations

import logging

from airflow.sdk import get_current_context

from persona_hub.settings import load_settings

log = logging.getLogger(__name__)

HUB_ARGS = ["--run", "{{ run_id }}", "--attempt", "{{ ti.try_number }}"]
SLICE_ARGS = ["--slice", "{{ dag_run.partition_key }}", *HUB_ARGS]


def log_funnel() -> None:
    """Folds what the stages counted, and logs the lines of this run's slice."""
    from persona_hub.tables.counts import fold_counts, format_funnel  # Arrow and deltalake: not while parsing

    rows = fold_counts(load_settings().lake)
    for line in format_funnel(rows, get_current_context()["dag_run"].partition_key):
        log.info(line)
