"""The calendar, the table of its files, their growth, and which night takes which slice."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.core.keys import SliceKey
from persona_hub.crawl import growth
from persona_hub.crawl.calendar import Calendar, SlicePlan, Snapshot, load_calendar, plan_slice
from persona_hub.crawl.file_lists import count_files, hash_list
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.nights import Nights, next_arrival, pick_slice
from persona_hub.errors import SourceError, UnknownSlice
from persona_hub.tables.bronze import CRAWL_FILES
from persona_hub.tables.lease import hold_lease

NOW = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
END = datetime(2026, 11, 12, 5, 0, tzinfo=UTC)
NIGHTS = Nights()


def make_listing(
    name: str = "CC-MAIN-2026-45", files: int = 3, end: datetime = END, base: str = "http://x"
) -> SnapshotListing:
    return SnapshotListing(name, end, tuple(f"{name}/{number}.wet.gz" for number in range(files)), base)


def add(folder: Path, listing: SnapshotListing, files_per_slice: int, first_seen: datetime) -> Snapshot:
    return add_snapshot(find_lake(folder), folder, listing, files_per_slice, first_seen)


def plan(folder: Path, key: str) -> SlicePlan:
    return plan_slice(find_lake(folder), folder, key)


def find_lake(folder: Path) -> str:
    return str(folder / "lake")


def read_files(folder: Path) -> list[tuple[object, ...]]:
    rows = DeltaTable(CRAWL_FILES.path(find_lake(folder))).to_pyarrow_table().to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def make_snapshot(name: str, slices: int, first_seen: datetime, end: datetime = END) -> Snapshot:
    return Snapshot(name, end, first_seen, "http://x", slices, 1, slices)


def test_missing_folder_is_an_empty_calendar(tmp_path: Path) -> None:
    assert load_calendar(tmp_path / "none") == Calendar()


def test_added_snapshot_is_read_back_with_its_slices(tmp_path: Path) -> None:
    add(tmp_path, make_listing(files=3), 2, NOW)
    calendar = load_calendar(tmp_path)
    sha256 = hash_list(make_listing(files=3).paths)
    assert calendar.snapshots == (Snapshot("CC-MAIN-2026-45", END, NOW, "http://x", 3, 2, 2, sha256),)
    assert calendar.slices == 2
    assert calendar.partition_date("CC-MAIN-2026-45/00002") == END + timedelta(seconds=2)
    assert plan(tmp_path, "CC-MAIN-2026-45/00001").files == (
        (0, "CC-MAIN-2026-45/0.wet.gz"),
        (1, "CC-MAIN-2026-45/1.wet.gz"),
    )
    assert plan(tmp_path, "CC-MAIN-2026-45/00002").files == ((2, "CC-MAIN-2026-45/2.wet.gz"),)


@pytest.mark.parametrize("key", ["CC-MAIN-2026-45/00000", "CC-MAIN-2026-45/00003"])
def test_unknown_ordinal_says_which_there_are(tmp_path: Path, key: str) -> None:
    add(tmp_path, make_listing(files=2), 1, NOW)
    with pytest.raises(UnknownSlice, match="CC-MAIN-2026-45 has slices 00001 to 00002"):
        load_calendar(tmp_path).partition_date(key)


def test_unknown_snapshot_says_which_there_are(tmp_path: Path) -> None:
    add(tmp_path, make_listing(), 1, NOW)
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
    add(tmp_path, make_listing(), 1, NOW)
    before = (tmp_path / "calendar.json").stat()
    add(tmp_path, make_listing(), 2, NOW + timedelta(days=1))
    assert (tmp_path / "calendar.json").stat() == before
    add(tmp_path, make_listing(base="http://y"), 2, NOW + timedelta(days=1))
    assert load_calendar(tmp_path).snapshots == (
        Snapshot("CC-MAIN-2026-45", END, NOW, "http://y", 3, 1, 3, hash_list(make_listing().paths)),
    )
    assert DeltaTable(CRAWL_FILES.path(find_lake(tmp_path))).version() == 0, "a list that is there is not written again"


@pytest.mark.parametrize("files", [2, 4])
def test_list_of_another_length_is_refused(tmp_path: Path, files: int) -> None:
    add(tmp_path, make_listing(files=3), 1, NOW)
    with pytest.raises(SourceError, match=f"CC-MAIN-2026-45 has changed: {files} files now, 3 known"):
        add(tmp_path, make_listing(files=files), 1, NOW)
    assert load_calendar(tmp_path).slices == 3


def test_changed_list_is_refused_with_what_was_found(tmp_path: Path) -> None:
    add(tmp_path, make_listing(), 1, NOW)
    changed = SnapshotListing("CC-MAIN-2026-45", END, ("CC-MAIN-2026-45/0.wet.gz", "other", "third"), "http://x")
    with pytest.raises(SourceError, match=r"file 1 is now 'other' instead of 'CC-MAIN-2026-45/1\.wet\.gz'"):
        add(tmp_path, changed, 1, NOW)


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        ((), "is empty"),
        (("a\nb",), "'a.nb'. Wanted: paths below its base"),
        (("",), "''"),
        ((" ",), "' '"),
        (("x", "/etc/passwd"), "'/etc/passwd'"),
        (("x", "a/../../b"), "'a/../../b'"),
        (("http://other.example/x",), "'http://other.example/x'"),
        (("x", "y", "x"), "'x' twice. Wanted: each file once"),
    ],
)
def test_list_with_what_is_no_path_is_refused(tmp_path: Path, paths: tuple[str, ...], says: str) -> None:
    with pytest.raises(SourceError, match=says):
        add(tmp_path, SnapshotListing("A", END, paths, ""), 1, NOW)
    assert load_calendar(tmp_path) == Calendar()
    assert count_files(find_lake(tmp_path)) == {}


def test_more_files_than_a_page_id_can_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MAX_FILES", 3)
    add(tmp_path, make_listing("A", files=3), 1, NOW)
    with pytest.raises(SourceError, match="B has 4 files. Wanted: at most 3"):
        add(tmp_path, make_listing("B", files=4), 1, NOW)


def test_table_has_each_file_with_its_slice(tmp_path: Path) -> None:
    add(tmp_path, make_listing("A", files=3), 2, NOW)
    add(tmp_path, make_listing("B", files=2), 1, NOW)
    assert read_files(tmp_path) == [
        ("A", 0, "A/0.wet.gz", "A/00001"),
        ("A", 1, "A/1.wet.gz", "A/00001"),
        ("A", 2, "A/2.wet.gz", "A/00002"),
        ("B", 0, "B/0.wet.gz", "B/00001"),
        ("B", 1, "B/1.wet.gz", "B/00002"),
    ]
    assert count_files(find_lake(tmp_path)) == {"A": 3, "B": 2}


def test_another_number_of_files_per_slice_changes_no_old_key(tmp_path: Path) -> None:
    add(tmp_path, make_listing("A", files=5), 2, NOW)
    before = [plan(tmp_path, f"A/{n:05d}") for n in (1, 2, 3)]
    add(tmp_path, make_listing("A", files=5), 5, NOW)
    add(tmp_path, make_listing("B", files=5), 5, NOW)
    assert [plan(tmp_path, f"A/{n:05d}") for n in (1, 2, 3)] == before
    assert [len(one.files) for one in before] == [2, 2, 1]
    assert len(plan(tmp_path, "B/00001").files) == 5
    with pytest.raises(UnknownSlice, match="No slice B/00002: B has slices 00001 to 00001"):
        plan(tmp_path, "B/00002")


def test_calendar_from_an_older_copy_finds_what_keys_have_meant(tmp_path: Path) -> None:
    add(tmp_path, make_listing("A"), 2, NOW)
    older = (tmp_path / "calendar.json").read_bytes()
    add(tmp_path, make_listing("B", files=6, end=END + timedelta(days=1)), 2, NOW)
    before, dates = plan(tmp_path, "B/00002"), list(load_calendar(tmp_path).iter_slices())
    (tmp_path / "calendar.json").write_bytes(older)
    add(tmp_path, make_listing("B", files=6, end=END + timedelta(days=1)), 5, NOW)
    assert plan(tmp_path, "B/00002") == before
    assert list(load_calendar(tmp_path).iter_slices()) == dates


def test_process_that_dies_between_table_and_calendar_has_added_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next list of that name may be another one, and cut otherwise: it takes the place of the rows left over."""
    add(tmp_path, make_listing("A", files=2), 1, NOW)

    def die(path: Path, content: str, durable: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(growth, "write_whole", die)
        add(tmp_path, make_listing("B", files=4), 1, NOW)
    assert [snapshot.id for snapshot in load_calendar(tmp_path).snapshots] == ["A"]
    assert count_files(find_lake(tmp_path)) == {"A": 2, "B": 4}
    with pytest.raises(UnknownSlice, match="No snapshot B"):
        plan(tmp_path, "B/00001")

    add(tmp_path, make_listing("B", files=3), 2, NOW)
    assert [row for row in read_files(tmp_path) if row[0] == "B"] == [
        ("B", 0, "B/0.wet.gz", "B/00001"),
        ("B", 1, "B/1.wet.gz", "B/00001"),
        ("B", 2, "B/2.wet.gz", "B/00002"),
    ]
    assert count_files(find_lake(tmp_path)) == {"A": 2, "B": 3}


def test_two_refreshes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each adds the same eight, in another order; a lock belongs to an open file, so threads are like processes."""
    names = [f"S{number}" for number in range(8)]

    def add_all(order: list[str]) -> None:
        for name in order:
            add(tmp_path, make_listing(name, files=3), 2, NOW)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add_all, (names, names[::-1])))
    assert sorted(load_calendar(tmp_path).by_id) == names
    assert count_files(find_lake(tmp_path)) == dict.fromkeys(names, 3)
    assert len({one.partition_date for one in load_calendar(tmp_path).iter_slices()}) == 16
    assert DeltaTable(CRAWL_FILES.path(find_lake(tmp_path))).version() == 7, "one commit each"


def test_snapshot_is_seen_when_it_is_written_not_when_it_began_to_wait(tmp_path: Path) -> None:
    """A night may begin in between: its slice is taken already, so this snapshot's first night is the next one."""
    with ThreadPoolExecutor(1) as pool:
        with hold_lease(find_lake(tmp_path), CRAWL_FILES.name):
            adding = pool.submit(add_snapshot, find_lake(tmp_path), tmp_path, make_listing(), 1)
            time.sleep(0.5)
            released = datetime.now(UTC)
        assert adding.result().first_seen >= released
    assert load_calendar(tmp_path).snapshots[0] == adding.result()
    assert add_snapshot(find_lake(tmp_path), tmp_path, make_listing(), 1) == adding.result()


def test_slice_at_the_border_of_row_groups_is_whole(tmp_path: Path) -> None:
    """Neighbours in the table: rows of other snapshots with the same ordinals, and of the same one in other groups."""
    for name in ("A", "B", "C"):
        add(tmp_path, make_listing(name, files=10_000), 3_000, NOW)
    assert plan(tmp_path, "B/00002").files == tuple((n, f"B/{n}.wet.gz") for n in range(3_000, 6_000))
    assert plan(tmp_path, "B/00004").files == tuple((n, f"B/{n}.wet.gz") for n in range(9_000, 10_000))


def test_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownSlice):
        add(tmp_path, make_listing("../x"), 1, NOW)


def test_own_files_take_an_earlier_day_never_the_future(tmp_path: Path) -> None:
    """Midnight of their day; the next one goes to the day before; a day that is not over is not overrun."""
    assert add(tmp_path, make_listing("mine", end=NOW), 1, NOW).end_date == datetime(2026, 11, 22, tzinfo=UTC)
    assert add(tmp_path, make_listing("more", end=NOW), 1, NOW).end_date == datetime(2026, 11, 21, tzinfo=UTC)
    future = make_listing("late", end=NOW + timedelta(days=30))
    assert add(tmp_path, future, 1, NOW).end_date == datetime(2026, 11, 20, tzinfo=UTC)
    large = make_listing("large", files=70_000, end=NOW)  # 19 h 26 min of seconds: not on a day that began 17 h ago
    assert add(tmp_path, large, 1, NOW).end_date == datetime(2026, 11, 19, tzinfo=UTC)


def test_snapshots_that_end_together_get_dates_of_their_own(tmp_path: Path) -> None:
    add(tmp_path, make_listing("CC-MAIN-2026-44", files=3), 1, NOW)
    add(tmp_path, make_listing("CC-MAIN-2026-45", files=3), 1, NOW)
    dates = [one.partition_date for one in load_calendar(tmp_path).iter_slices()]
    assert len(set(dates)) == 6
    assert load_calendar(tmp_path).by_id["CC-MAIN-2026-45"].end_date == datetime(2026, 11, 12, tzinfo=UTC)


def test_broken_file_keeps_the_last_good_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path, make_listing(), 1, NOW)
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
    add(tmp_path / "good", make_listing(), 1, NOW)
    rows = json.loads((tmp_path / "good" / "calendar.json").read_text())
    rows["snapshots"][0] |= change
    (tmp_path / "calendar.json").write_text(json.dumps(rows))
    with pytest.raises(SourceError, match=says):
        load_calendar(tmp_path)


def test_lost_table_is_said_and_entered_again(tmp_path: Path) -> None:
    """With the number of files in a slice that it had: rows of old keys must mean what they meant."""
    add(tmp_path, make_listing("A", files=3), 2, NOW)
    before = plan(tmp_path, "A/00001"), read_files(tmp_path)
    shutil.rmtree(find_lake(tmp_path))
    with pytest.raises(SourceError, match=r"has 0 files of A/00001\. Wanted: the 2 that the crawl calendar counted"):
        plan(tmp_path, "A/00001")
    add(tmp_path, make_listing("A", files=3), 1, NOW)
    assert (plan(tmp_path, "A/00001"), read_files(tmp_path)) == before


def test_calendar_without_hashes_takes_them_from_the_list_of_its_length(tmp_path: Path) -> None:
    add(tmp_path, make_listing("A", files=3), 2, NOW)
    good = json.loads((tmp_path / "calendar.json").read_text())
    old = {"snapshots": [{name: value for name, value in good["snapshots"][0].items() if name != "sha256"}]}
    (tmp_path / "calendar.json").write_text(json.dumps(old))
    with pytest.raises(SourceError, match="A has changed: 4 files now, 3 known"):
        add(tmp_path, make_listing("A", files=4), 2, NOW)
    add(tmp_path, make_listing("A", files=3), 2, NOW)
    assert json.loads((tmp_path / "calendar.json").read_text()) == good


def test_real_list_has_the_hash_of_its_text(tmp_path: Path, shared_data: Path) -> None:
    text = gzip.decompress((shared_data / "crawl/common-crawl/CC-MAIN-2026-30.wet.paths.gz").read_bytes())
    paths = tuple(text.decode().splitlines())
    listing = SnapshotListing("CC-MAIN-2026-30", END, paths, "https://data.commoncrawl.org")
    assert add(tmp_path, listing, 2, NOW).sha256 == hashlib.sha256(text).hexdigest()
    assert plan(tmp_path, "CC-MAIN-2026-30/50000").files == ((99_998, paths[-2]), (99_999, paths[-1]))
    with pytest.raises(SourceError, match="has 100000 files, 1 in a slice. Wanted: at most 99999 slices"):
        add(tmp_path, replace(listing, id="CC-MAIN-2026-34"), 1, NOW)


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


def test_older_snapshot_that_is_entered_later_waits_for_the_newest() -> None:
    """As after a fault of its list, or when `newest` is raised: its nights are years, and the newest goes first."""
    first = NIGHTS.number(NOW) + 1
    newest = make_snapshot("N", 4, NOW, END)
    older = make_snapshot("O", 2, NOW + timedelta(days=2), END - timedelta(days=30))
    picks = [pick_slice(Calendar((older, newest)), NIGHTS, first + n) for n in range(7)]
    names = [str(pick.key) if pick else None for pick in picks]
    assert names == ["N/00001", "N/00002", "N/00003", "N/00004", "O/00001", "O/00002", None]


arrivals = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(0, 30)), min_size=1, max_size=7)


@settings(max_examples=200, deadline=None)
@given(arrivals=arrivals)
def test_nights_take_each_slice_once_and_all_in_the_end(arrivals: list[tuple[int, int, int]]) -> None:
    calendar = make_calendar(arrivals)
    start = NIGHTS.number(NOW)
    picks = [pick_slice(calendar, NIGHTS, start + night) for night in range(31 + calendar.slices + 1)]
    keys = [pick.key for pick in picks if pick]
    assert sorted(keys) == sorted(one.key for one in calendar.iter_slices())


@settings(max_examples=200, deadline=None)
@given(arrivals=arrivals)
def test_later_snapshot_changes_no_night_of_the_past(arrivals: list[tuple[int, int, int]]) -> None:
    arrivals = sorted(arrivals)
    before, after = make_calendar(arrivals[:-1]), make_calendar(arrivals)
    start = NIGHTS.number(NOW)
    for night in range(start - 1, start + 1 + arrivals[-1][0]):
        assert pick_slice(before, NIGHTS, night) == pick_slice(after, NIGHTS, night)


def make_calendar(arrivals: list[tuple[int, int, int]]) -> Calendar:
    """From (days after NOW at which it was first seen, slices, day on which it ended)."""
    return Calendar(
        tuple(
            make_snapshot(f"S{place}", slices, NOW + timedelta(days=day), END + timedelta(days=end, minutes=place))
            for place, (day, slices, end) in enumerate(arrivals)
        )
    )
