"""The calendar, its growth, and which night takes which slice."""

from __future__ import annotations

import gzip
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.core.keys import SliceKey
from persona_hub.crawl.calendar import Calendar, Snapshot, load_calendar, plan_slice
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.nights import Nights, next_arrival, pick_slice
from persona_hub.errors import SourceError, UnknownSlice

NOW = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
END = datetime(2026, 11, 12, 5, 0, tzinfo=UTC)
NIGHTS = Nights()


def make_listing(
    name: str = "CC-MAIN-2026-45", files: int = 3, end: datetime = END, base: str = "http://x"
) -> SnapshotListing:
    return SnapshotListing(name, end, tuple(f"{name}/{number}.wet.gz" for number in range(files)), base)


def make_snapshot(name: str, slices: int, first_seen: datetime, end: datetime = END) -> Snapshot:
    return Snapshot(name, end, first_seen, "http://x", slices, 1, slices)


def test_missing_folder_is_an_empty_calendar(tmp_path: Path) -> None:
    assert load_calendar(tmp_path / "none") == Calendar()


def test_added_snapshot_is_read_back_with_its_slices(tmp_path: Path) -> None:
    add_snapshot(tmp_path, make_listing(files=3), 2, NOW)
    calendar = load_calendar(tmp_path)
    assert calendar.snapshots == (Snapshot("CC-MAIN-2026-45", END, NOW, "http://x", 3, 2, 2),)
    assert calendar.slices == 2
    assert calendar.partition_date("CC-MAIN-2026-45/00002") == END + timedelta(seconds=2)
    assert plan_slice(tmp_path, "CC-MAIN-2026-45/00001").files == (
        (0, "CC-MAIN-2026-45/0.wet.gz"),
        (1, "CC-MAIN-2026-45/1.wet.gz"),
    )
    assert plan_slice(tmp_path, "CC-MAIN-2026-45/00002").files == ((2, "CC-MAIN-2026-45/2.wet.gz"),)


@pytest.mark.parametrize("key", ["CC-MAIN-2026-45/00000", "CC-MAIN-2026-45/00003"])
def test_unknown_ordinal_says_which_there_are(tmp_path: Path, key: str) -> None:
    add_snapshot(tmp_path, make_listing(files=2), 1, NOW)
    with pytest.raises(UnknownSlice, match="CC-MAIN-2026-45 has slices 00001 to 00002"):
        load_calendar(tmp_path).partition_date(key)


def test_unknown_snapshot_says_which_there_are(tmp_path: Path) -> None:
    add_snapshot(tmp_path, make_listing(), 1, NOW)
    with pytest.raises(UnknownSlice, match=r"No snapshot CC-MAIN-2020-50 .* newest first: CC-MAIN-2026-45"):
        load_calendar(tmp_path).partition_date("CC-MAIN-2020-50/00001")


@pytest.mark.parametrize(
    "key", ["", "CC-MAIN-2026-45", "CC-MAIN-2026-45/1", "../../etc/00001", "CC-MAIN-2026-45/00001\n"]
)
def test_key_of_another_form_is_refused(key: str) -> None:
    with pytest.raises(UnknownSlice, match="is no slice key"):
        Calendar().partition_date(key)


def test_slices_of_a_range_of_seconds() -> None:
    calendar = Calendar((make_snapshot("A", 5, NOW), make_snapshot("B", 2, NOW, END + timedelta(days=1))))
    keys = [
        str(one.key) for one in calendar.iter_slices(END + timedelta(seconds=3), END + timedelta(days=1, seconds=1))
    ]
    assert keys == ["A/00003", "A/00004", "A/00005", "B/00001"]
    assert [str(one.key) for one in calendar.iter_slices(END, END)] == []
    assert len(list(calendar.iter_slices())) == 7


def test_same_list_again_changes_nothing_and_a_moved_mirror_only_the_base(tmp_path: Path) -> None:
    add_snapshot(tmp_path, make_listing(), 1, NOW)
    before = (tmp_path / "calendar.json").stat()
    add_snapshot(tmp_path, make_listing(), 2, NOW + timedelta(days=1))
    assert (tmp_path / "calendar.json").stat() == before
    add_snapshot(tmp_path, make_listing(base="http://y"), 2, NOW + timedelta(days=1))
    assert load_calendar(tmp_path).snapshots == (Snapshot("CC-MAIN-2026-45", END, NOW, "http://y", 3, 1, 3),)


@pytest.mark.parametrize("files", [2, 4])
def test_list_of_another_length_is_refused(tmp_path: Path, files: int) -> None:
    add_snapshot(tmp_path, make_listing(files=3), 1, NOW)
    with pytest.raises(SourceError, match=f"CC-MAIN-2026-45 has changed: {files} files now, 3 known"):
        add_snapshot(tmp_path, make_listing(files=files), 1, NOW)
    assert load_calendar(tmp_path).slices == 3


def test_changed_list_is_refused_with_what_was_found(tmp_path: Path) -> None:
    add_snapshot(tmp_path, make_listing(), 1, NOW)
    changed = SnapshotListing("CC-MAIN-2026-45", END, ("CC-MAIN-2026-45/0.wet.gz", "other", "third"), "http://x")
    with pytest.raises(SourceError, match=r"file 1 is now 'other' instead of 'CC-MAIN-2026-45/1\.wet\.gz'"):
        add_snapshot(tmp_path, changed, 1, NOW)


@pytest.mark.parametrize("paths", [(), ("a\nb",), ("",), (" ",)])
def test_list_with_what_is_no_path_is_refused(tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(SourceError):
        add_snapshot(tmp_path, SnapshotListing("A", END, paths, ""), 1, NOW)
    assert load_calendar(tmp_path) == Calendar()


def test_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownSlice):
        add_snapshot(tmp_path, make_listing("../x"), 1, NOW)


def test_own_files_take_an_earlier_day_never_the_future(tmp_path: Path) -> None:
    """Midnight of their day; the next one goes to the day before; a day that is not over is not overrun."""
    assert add_snapshot(tmp_path, make_listing("mine", end=NOW), 1, NOW).end_date == datetime(2026, 11, 22, tzinfo=UTC)
    assert add_snapshot(tmp_path, make_listing("more", end=NOW), 1, NOW).end_date == datetime(2026, 11, 21, tzinfo=UTC)
    future = make_listing("late", end=NOW + timedelta(days=30))
    assert add_snapshot(tmp_path, future, 1, NOW).end_date == datetime(2026, 11, 20, tzinfo=UTC)
    large = make_listing("large", files=70_000, end=NOW)  # 19 h 26 min of seconds: not on a day that began 17 h ago
    assert add_snapshot(tmp_path, large, 1, NOW).end_date == datetime(2026, 11, 19, tzinfo=UTC)


def test_snapshots_that_end_together_get_dates_of_their_own(tmp_path: Path) -> None:
    add_snapshot(tmp_path, make_listing("CC-MAIN-2026-44", files=3), 1, NOW)
    add_snapshot(tmp_path, make_listing("CC-MAIN-2026-45", files=3), 1, NOW)
    dates = [one.partition_date for one in load_calendar(tmp_path).iter_slices()]
    assert len(set(dates)) == 6
    assert load_calendar(tmp_path).by_id["CC-MAIN-2026-45"].end_date == datetime(2026, 11, 12, tzinfo=UTC)


def test_broken_file_keeps_the_last_good_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_snapshot(tmp_path, make_listing(), 1, NOW)
    good = load_calendar(tmp_path)
    for broken in ("{", "[]", '{"snapshots": [{}]}', '{"snapshots": ["x"]}'):
        caplog.clear()
        (tmp_path / "calendar.json").write_text(broken)
        with caplog.at_level(logging.WARNING):
            assert load_calendar(tmp_path) == good
        assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_broken_file_without_an_earlier_copy_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "calendar.json").write_text("{")
    with pytest.raises(SourceError, match=r"calendar\.json cannot be read"):
        load_calendar(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"slices": 2}, "2 slices do not fit 3 files"),
        ({"id": "../x"}, "is no slice key"),
        ({"end_date": "soon"}, "soon"),
        ({"files_per_slice": 0}, "0 in a slice"),
    ],
)
def test_calendar_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    add_snapshot(tmp_path / "good", make_listing(), 1, NOW)
    rows = json.loads((tmp_path / "good" / "calendar.json").read_text())
    rows["snapshots"][0] |= change
    (tmp_path / "calendar.json").write_text(json.dumps(rows))
    with pytest.raises(SourceError, match=says):
        load_calendar(tmp_path)


def test_file_list_that_lost_lines_is_refused(tmp_path: Path) -> None:
    add_snapshot(tmp_path, make_listing(files=3), 1, NOW)
    (tmp_path / "CC-MAIN-2026-45.paths.gz").write_bytes(gzip.compress(b"one\n"))
    with pytest.raises(SourceError, match=r"has 1 files\. Wanted: the 3 that the calendar counted"):
        plan_slice(tmp_path, "CC-MAIN-2026-45/00001")


def test_nights_are_counted_from_two_in_the_morning() -> None:
    two = datetime(2026, 11, 22, 2, tzinfo=UTC)
    night = NIGHTS.number(two)
    assert NIGHTS.begin(night) == two
    assert NIGHTS.number(two - timedelta(seconds=1)) == night - 1
    assert NIGHTS.first_from(two) == night
    assert NIGHTS.first_from(two + timedelta(seconds=1)) == night + 1
    assert NIGHTS.first_from(two + timedelta(microseconds=1)) == night + 1


def test_newest_first_then_the_tail_of_those_before() -> None:
    first = NIGHTS.number(NOW) + 1
    calendar = Calendar(
        (make_snapshot("A", 4, NOW), make_snapshot("B", 2, NOW + timedelta(days=2), END + timedelta(days=9)))
    )
    picks = [pick_slice(calendar, NIGHTS, first + n) for n in range(-1, 7)]
    assert [pick and pick.key for pick in picks] == [
        None,
        SliceKey("A", 1),
        SliceKey("A", 2),
        SliceKey("B", 1),
        SliceKey("B", 2),
        SliceKey("A", 3),
        SliceKey("A", 4),
        None,
    ]
    assert next_arrival(calendar, NIGHTS, first - 1) == first
    assert next_arrival(calendar, NIGHTS, first) == first + 2
    assert next_arrival(calendar, NIGHTS, first + 2) is None


arrivals = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=7)


@settings(max_examples=200, deadline=None)
@given(arrivals=arrivals)
def test_nights_take_each_slice_once_and_all_in_the_end(arrivals: list[tuple[int, int]]) -> None:
    calendar = make_calendar(arrivals)
    start = NIGHTS.number(NOW)
    picks = [pick_slice(calendar, NIGHTS, start + night) for night in range(31 + calendar.slices + 1)]
    keys = [pick.key for pick in picks if pick]
    assert sorted(keys) == sorted(one.key for one in calendar.iter_slices())


@settings(max_examples=200, deadline=None)
@given(arrivals=arrivals)
def test_later_snapshot_changes_no_night_of_the_past(arrivals: list[tuple[int, int]]) -> None:
    arrivals = sorted(arrivals)
    before, after = make_calendar(arrivals[:-1]), make_calendar(arrivals)
    start = NIGHTS.number(NOW)
    for night in range(start - 1, start + 1 + arrivals[-1][0]):
        assert pick_slice(before, NIGHTS, night) == pick_slice(after, NIGHTS, night)


def make_calendar(arrivals: list[tuple[int, int]]) -> Calendar:
    """From (days after NOW at which it was first seen, slices)."""
    return Calendar(
        tuple(
            make_snapshot(f"S{place}", slices, NOW + timedelta(days=day), END + timedelta(days=place))
            for place, (day, slices) in enumerate(arrivals)
        )
    )
