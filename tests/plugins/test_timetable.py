"""The timetable's answers to Airflow's questions."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.exceptions import InvalidPartitionKeyError
from airflow.models import import_all_models
from airflow.models.dagrun import DagRun
from airflow.sdk import Asset, PartitionedAssetTimetable
from airflow.serialization.decoders import decode_partition_mapper, decode_timetable
from airflow.serialization.encoders import encode_partition_mapper, encode_timetable
from airflow.timetables.base import DagRunInfo, TimeRestriction
from airflow.utils.types import DagRunType
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub_airflow import timetable as module
from persona_hub_airflow.mapper import SliceMapper
from persona_hub_airflow.timetable import CrawlSliceTimetable

END = datetime(2026, 11, 12, 5, tzinfo=UTC)
SEEN = datetime(2026, 11, 20, 12, tzinfo=UTC)  # so the first night is that of the 21st, at 2:00
ANY = TimeRestriction(earliest=None, latest=None, catchup=False)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    add(tmp_path, "CC-MAIN-2026-45", 3, SEEN)
    return str(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the timetable takes for now."""

    def set_now(text: str) -> None:
        now = datetime.fromisoformat(text).replace(tzinfo=UTC)

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return now

        monkeypatch.setattr(module, "datetime", Clock)

    return set_now


def add(folder: str | Path, name: str, files: int, seen: datetime, end: datetime = END) -> None:
    listing = SnapshotListing(name, end, tuple(f"{n}.gz" for n in range(files)), "http://x")
    add_snapshot(f"{folder}/lake", folder, listing, 1, seen)


def ask(
    timetable: CrawlSliceTimetable, last: str | None = None, restriction: TimeRestriction = ANY
) -> tuple[str, str] | None:
    after = last and DagRunInfo(pendulum.parse(last), None)
    info = timetable.next_dagrun_info_v2(last_dagrun_info=after, restriction=restriction)
    return info and (info.run_after.strftime("%d %H:%M"), info.partition_key)


def test_only_the_folder_and_the_beat_are_serialized(folder: str) -> None:
    timetable = CrawlSliceTimetable(folder, period_s=60, offset_s=5, grace_s=20)
    data = timetable.serialize()
    assert data == {"calendar_folder": folder, "period_s": 60, "offset_s": 5, "grace_s": 20}
    assert CrawlSliceTimetable.deserialize(data).serialize() == data


def test_the_plugin_registers_timetable_and_mapper(folder: str) -> None:
    back = decode_timetable(encode_timetable(CrawlSliceTimetable(folder)))
    assert (type(back), back.calendar_folder) == (CrawlSliceTimetable, folder)
    mapper = decode_partition_mapper(encode_partition_mapper(SliceMapper(folder)))
    assert (type(mapper), mapper.calendar_folder) == (SliceMapper, folder)


@pytest.mark.parametrize(
    ("now", "last", "expected"),
    [
        ("2026-11-20T13:00", None, ("21 02:00", "CC-MAIN-2026-45/00001")),
        ("2026-11-21T02:00", None, ("21 02:00", "CC-MAIN-2026-45/00001")),
        ("2026-11-21T07:59", None, ("21 02:00", "CC-MAIN-2026-45/00001")),  # late, but within the grace
        ("2026-11-21T08:01", None, ("22 02:00", "CC-MAIN-2026-45/00002")),  # missed: its slice comes by backfill
        ("2026-11-21T02:05", "2026-11-21T02:00", ("22 02:00", "CC-MAIN-2026-45/00002")),
        ("2026-11-21T01:59", "2026-11-22T02:00", ("23 02:00", "CC-MAIN-2026-45/00003")),
        ("2026-11-23T09:00", "2026-11-23T02:00", None),  # exhausted
        ("2026-11-20T03:00", None, ("21 02:00", "CC-MAIN-2026-45/00001")),  # the night is running, first seen after it
        ("2026-11-02T03:00", None, ("21 02:00", "CC-MAIN-2026-45/00001")),
    ],
)
def test_next_night(folder: str, clock: Any, now: str, last: str | None, expected: tuple[str, str] | None) -> None:
    clock(now)
    assert ask(CrawlSliceTimetable(folder), last) == expected


def test_restrictions_hold(folder: str, clock: Any) -> None:
    clock("2026-11-20T13:00")
    timetable, day = CrawlSliceTimetable(folder), pendulum.datetime(2026, 11, 22)
    assert ask(timetable, None, TimeRestriction(day, None, False)) == ("22 02:00", "CC-MAIN-2026-45/00002")
    assert ask(timetable, None, TimeRestriction(None, pendulum.datetime(2026, 11, 21), False)) is None


def test_snapshot_that_came_since_the_plan_goes_first(folder: str) -> None:
    class Planned:
        next_dagrun_create_after = pendulum.datetime(2026, 11, 22, 2)
        next_dagrun_partition_date = pendulum.instance(END + timedelta(seconds=2))
        next_dagrun_partition_key = "CC-MAIN-2026-45/00002"
        next_dagrun = next_dagrun_data_interval = next_dagrun_data_interval_start = next_dagrun_data_interval_end = None

    timetable = CrawlSliceTimetable(folder)
    assert timetable.next_run_info_from_dag_model(dag_model=Planned()).partition_key == "CC-MAIN-2026-45/00002"
    add(folder, "CC-MAIN-2026-47", 2, datetime(2026, 11, 21, 20, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC))
    info = timetable.next_run_info_from_dag_model(dag_model=Planned())
    assert info.partition_key == "CC-MAIN-2026-47/00001"
    assert info.partition_date == datetime(2026, 11, 19, 0, 0, 1, tzinfo=UTC)
    assert info.run_after == pendulum.datetime(2026, 11, 22, 2)


def test_last_run_is_the_last_scheduled_one_not_a_backfill(folder: str) -> None:
    """A backfill of the last slices, done ahead, must not move the nights."""
    engine = create_engine("sqlite://")
    import_all_models()
    DagRun.metadata.create_all(engine)
    runs = [
        ("scheduled", DagRunType.SCHEDULED, datetime(2026, 11, 21, 2, tzinfo=UTC), 1),
        ("backfill", DagRunType.BACKFILL_JOB, datetime(2026, 11, 21, 15, tzinfo=UTC), 3),
        ("manual", DagRunType.MANUAL, datetime(2026, 11, 21, 16, tzinfo=UTC), 2),
    ]
    with Session(engine) as session:
        for name, kind, run_after, ordinal in runs:
            run = DagRun(
                dag_id="d",
                run_id=name,
                run_type=kind,
                run_after=run_after,
                partition_key=f"CC-MAIN-2026-45/0000{ordinal}",
            )
            run.partition_date = END + timedelta(seconds=ordinal)
            session.add(run)
        session.flush()
        timetable = CrawlSliceTimetable(folder)
        for run in session.query(DagRun):
            info = timetable.run_info_from_dag_run(dag_run=run)
            assert (run.run_id, info.run_after) == (run.run_id, datetime(2026, 11, 21, 2, tzinfo=UTC))


def test_backfill_only_leaves_the_first_night_free(folder: str, clock: Any) -> None:
    """No scheduled run yet: the nights begin as if there were no run at all."""
    clock("2026-11-21T02:05")
    run = DagRun(
        dag_id="d", run_id="b", run_type=DagRunType.BACKFILL_JOB, run_after=datetime(2026, 11, 21, 2, tzinfo=UTC)
    )
    timetable = CrawlSliceTimetable(folder)
    info = timetable.run_info_from_dag_run(dag_run=run)
    after = timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=ANY)
    assert (after.run_after.day, after.partition_key) == (21, "CC-MAIN-2026-45/00001")


def test_backfill_range_lists_its_slices(folder: str) -> None:
    infos = CrawlSliceTimetable(folder).iter_partition_dagrun_infos(
        earliest=pendulum.instance(END + timedelta(seconds=2)), latest=pendulum.instance(END + timedelta(seconds=9))
    )
    assert [(info.partition_key, info.partition_date) for info in infos] == [
        ("CC-MAIN-2026-45/00002", END + timedelta(seconds=2)),
        ("CC-MAIN-2026-45/00003", END + timedelta(seconds=3)),
    ]


REFUSED = [
    ("CC-MAIN-2026-45/00004", "CC-MAIN-2026-45 has slices 00001 to 00003"),
    ("CC-MAIN-2020-50/00001", "No snapshot CC-MAIN-2020-50"),
    ("2026-11-21", "is no slice key"),
]


@pytest.mark.parametrize(("key", "says"), [*REFUSED, (None, "No partition key")])
def test_wrong_key_is_refused_in_the_calendar_s_words(folder: str, key: str | None, says: str) -> None:
    with pytest.raises(InvalidPartitionKeyError, match=says):
        CrawlSliceTimetable(folder).resolve_partition_date(key)


def test_key_gives_its_date(folder: str) -> None:
    assert CrawlSliceTimetable(folder).resolve_partition_date("CC-MAIN-2026-45/00003") == END + timedelta(seconds=3)


@pytest.mark.parametrize(("key", "says"), REFUSED)
def test_downstream_refuses_it_too(folder: str, key: str, says: str) -> None:
    with pytest.raises(InvalidPartitionKeyError, match=says):
        SliceMapper(folder).to_downstream(key)
    follower = PartitionedAssetTimetable(assets=Asset("a"), default_partition_mapper=SliceMapper(folder))
    with pytest.raises(InvalidPartitionKeyError, match=says):
        decode_timetable(encode_timetable(follower)).resolve_partition_date(key)


def test_downstream_keeps_key_and_date(folder: str) -> None:
    assert SliceMapper(folder).to_downstream("CC-MAIN-2026-45/00002") == "CC-MAIN-2026-45/00002"
    assert SliceMapper(folder).to_partition_date("CC-MAIN-2026-45/00002") == END + timedelta(seconds=2)


def test_look_up_among_120_snapshots_takes_under_5_ms(tmp_path: Path, clock: Any) -> None:
    """The calendar read anew, as after each refresh: what every scheduler loop may have to pay for."""
    clock("2026-11-21T02:05")
    add(tmp_path, "CC-MAIN-2016-01", 3, datetime(2016, 6, 1, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC))
    file = tmp_path / "calendar.json"
    [first] = json.loads(file.read_text())["snapshots"]
    rows = [
        first
        | {"id": f"S{number}", "end_date": f"{END - timedelta(days=30 * number)}", "files": 50_000, "slices": 50_000}
        for number in range(120)
    ]
    file.write_text(json.dumps({"snapshots": rows}))
    timetable, seconds = CrawlSliceTimetable(str(tmp_path)), []
    for _ in range(20):
        file.touch()
        start = time.perf_counter()
        found = ask(timetable)
        seconds.append(time.perf_counter() - start)
    assert found == ("21 02:00", "S0/03826")
    print(f"best {min(seconds) * 1e3:.2f} ms of {len(seconds)}, worst {max(seconds) * 1e3:.2f}")
    assert min(seconds) < 0.005


def test_run_ids_never_repeat(folder: str) -> None:
    at = pendulum.datetime(2026, 11, 21, 2)
    ids = {
        CrawlSliceTimetable(folder).generate_run_id(
            run_type=DagRunType.SCHEDULED, run_after=at, data_interval=None, partition_key="CC-MAIN-2026-45/00001"
        )
        for _ in range(20)
    }
    assert len(ids) == 20
    assert all(one.startswith("scheduled__2026-11-21T02:00:00+00:00__CC-MAIN-2026-45.00001__") for one in ids)
