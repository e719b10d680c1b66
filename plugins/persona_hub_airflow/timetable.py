"""The nightly timetable: a crawl slice is the partition (docs/adr/0001).

Only the calendar's folder and the beat of the nights are serialized with a DAG; the calendar itself is read
when it is asked, so that a new snapshot needs no new parse. The rules are persona_hub.crawl.nights;
this module answers Airflow's questions with them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.exceptions import InvalidPartitionKeyError
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from sqlalchemy import func, select
from sqlalchemy.orm import object_session

from persona_hub.crawl.calendar import Slice, load_calendar
from persona_hub.crawl.nights import Nights, next_arrival, pick_slice
from persona_hub_airflow.mapper import decode_slice_date

if TYPE_CHECKING:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class CrawlSliceTimetable(Timetable):
    """Each night the next slice of the newest snapshot, then the tail of those before.

    Args:
        calendar_folder: the crawl calendar's folder, the same for every component of Airflow.
        period_s: seconds from night to night.
        offset_s: seconds after midnight UTC at which a night begins.
        grace_s: how late a night may still begin its run; after that it stays missed.
    """

    partitioned = True
    run_ordering = ("run_after",)

    def __init__(
        self, calendar_folder: str, *, period_s: int = 86_400, offset_s: int = 7_200, grace_s: int = 21_600
    ) -> None:
        self.calendar_folder = calendar_folder
        self.nights = Nights(period_s, offset_s)
        self.grace = timedelta(seconds=grace_s)
        self.description = f"the next slice of the newest crawl, {self.summary}"

    @property
    def summary(self) -> str:
        if self.nights.period_s == 86_400:
            return f"nightly at {self.nights.begin(0):%H:%M} UTC"
        return f"every {self.nights.period_s} s"

    def serialize(self) -> dict[str, Any]:
        return {
            "calendar_folder": self.calendar_folder,
            "period_s": self.nights.period_s,
            "offset_s": self.nights.offset_s,
            "grace_s": int(self.grace.total_seconds()),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> CrawlSliceTimetable:
        return cls(**data)

    # --- the scheduler asks for the next run

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next night from now, not from the last run: a night is missed when its grace is over.

        "Strictly after now" would lose a night whenever the DAG is parsed again between its tick and its run.
        """
        last = self.nights.number(last_dagrun_info.run_after) if last_dagrun_info else None
        if restriction.catchup and last is not None:
            night = last + 1
        else:
            now = datetime.now(UTC)
            night = self.nights.number(now)
            if now - self.nights.begin(night) > self.grace:
                night += 1
            if last is not None:
                night = max(night, last + 1)
        if restriction.earliest is not None:
            night = max(night, self.nights.first_from(restriction.earliest))
        info = self._plan_night(night) or self._plan_arrival(night)
        if info and restriction.latest is not None and info.run_after > restriction.latest:
            return None
        return info

    def run_info_from_dag_run(self, *, dag_run: DagRun) -> DagRunInfo:
        """The last *scheduled* run: Airflow's own "last" has the largest partition date, backfills included."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunType

        last = dag_run.run_after if dag_run.run_type == DagRunType.SCHEDULED else LONG_AGO
        if (session := object_session(dag_run)) is not None:
            newest = select(func.max(DagRun.run_after)).where(
                DagRun.dag_id == dag_run.dag_id, DagRun.run_type == DagRunType.SCHEDULED
            )
            with session.no_autoflush:
                last = max(last, session.scalar(newest) or LONG_AGO)
        return DagRunInfo(
            run_after=pendulum.instance(last),
            data_interval=None,
            partition_date=dag_run.partition_date,
            partition_key=dag_run.partition_key,
        )

    def next_run_info_from_dag_model(self, *, dag_model: DagModel) -> DagRunInfo | None:
        """What was planned a night ago, looked up once more: a snapshot that came since goes first."""
        planned = super().next_run_info_from_dag_model(dag_model=dag_model)
        if planned is None:
            return None
        return self._plan_night(self.nights.number(planned.run_after)) or planned

    def _plan_night(self, night: int) -> DagRunInfo | None:
        found = pick_slice(load_calendar(self.calendar_folder), self.nights, night)
        return _describe_run(found, self.nights.begin(night)) if found else None

    def _plan_arrival(self, night: int) -> DagRunInfo | None:
        """No slice for this night: a snapshot may have been seen after it began, and start on a later one."""
        later = next_arrival(load_calendar(self.calendar_folder), self.nights, night)
        return self._plan_night(later) if later is not None else None

    # --- backfill and trigger name slices

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterator[DagRunInfo]:
        for found in load_calendar(self.calendar_folder).iter_slices(earliest, latest):
            yield _describe_run(found, found.partition_date)

    def resolve_partition_date(self, partition_key: str | None) -> datetime:
        """Refuses a missing key too: such a run has no slice, and the UI's calendar page fails on it for ever."""
        if partition_key is None:
            raise InvalidPartitionKeyError("No partition key. Wanted: a slice such as CC-MAIN-2026-30/00012.")
        return self._decode_partition_date(partition_key)

    def _decode_partition_date(self, partition_key: str) -> datetime:
        return decode_slice_date(self.calendar_folder, partition_key)

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        return DataInterval.exact(run_after)

    def generate_run_id(
        self, *, run_type: DagRunType, run_after: pendulum.DateTime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """Unique by its random end: a repeated id is an IntegrityError, and that ends the scheduler's loop."""
        at = run_after if run_type == run_type.SCHEDULED else datetime.now(UTC)
        key = (extra.get("partition_key") or "").replace("/", ".")
        parts = [at.isoformat(timespec="seconds"), key, secrets.token_hex(4)]
        return run_type.generate_run_id(suffix="__".join(part for part in parts if part))


def _describe_run(found: Slice, run_after: datetime) -> DagRunInfo:
    return DagRunInfo(
        run_after=pendulum.instance(run_after),
        data_interval=None,
        partition_date=pendulum.instance(found.partition_date),
        partition_key=str(found.key),
    )
