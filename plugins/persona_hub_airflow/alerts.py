"""What is said of a run that takes too long."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

log = logging.getLogger(__name__)

LATE = timedelta(hours=12)  # half a night's beat: time enough to look before the next slice is due


def report_late_run(context: dict[str, Any]) -> None:
    """Airflow's executor calls this once for a run that is not done in time; the run goes on."""
    run = context["dag_run"]
    log.warning(
        "%s of %s is not done %s after it was queued at %s: look at its running task, and at the pool `spark`",
        run["dag_id"],
        run["partition_key"],
        LATE,
        run["queued_at"],
    )


def alert_when_late() -> DeadlineAlert:
    """From the time a run was queued: partitioned runs have no logical date to count from."""
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, LATE, SyncCallback(report_late_run), name="late")
