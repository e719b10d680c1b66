"""The calendar's refresh: from folders and a loopback mirror, whole, interrupted, and lied to."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from persona_hub.crawl import refresh
from persona_hub.crawl.calendar import load_calendar, plan_slice
from persona_hub.crawl.file_lists import count_files
from persona_hub.crawl.nights import Nights, pick_slice
from persona_hub.crawl.refresh import RefreshReport, refresh_calendar
from persona_hub.errors import SettingsError, SourceError
from persona_hub.settings import Settings, load_settings

ENDS = {
    "CC-MAIN-2026-04": "2026-01-31T00:00:00",
    "CC-MAIN-2026-26": "2026-06-30T11:00:00",
    "CC-MAIN-2026-30": "2026-07-20",
}
INDEX = "/collinfo.json"
NIGHTS = Nights()


class Mirror:
    """Files that a server serves with an ETag or a date, what it was asked, and what it answered."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.by_date = False
        self.asked: list[tuple[str, int]] = []
        self.url = ""

    def answer(self, path: str, etag: str | None, since: str | None) -> tuple[int, bytes, dict[str, str]]:
        body = self.files.get(path)
        if path in self.status or body is None:
            return self.status.get(path, 404), b"", {}
        crc = gzip.zlib.crc32(body)  # type: ignore[attr-defined]
        mark = formatdate(crc, usegmt=True) if self.by_date else f'"{crc:x}"'
        if mark in (etag, since):
            return 304, b"", {}
        return 200, body, {"Last-Modified" if self.by_date else "ETag": mark}

    def take_asked(self) -> list[tuple[str, int]]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    mirror = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = mirror.answer(
                self.path, self.headers["If-None-Match"], self.headers["If-Modified-Since"]
            )
            mirror.asked.append((self.path, status))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        mirror.url = f"http://127.0.0.1:{server.server_port}"
        yield mirror
        server.shutdown()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings of a hub in a folder, with quick retries."""
    quick = refresh.make_access
    monkeypatch.setattr(refresh, "make_access", lambda settings: replace(quick(settings), backoff_s=0.001))

    def make_settings(source: str, **crawl: str) -> Settings:
        ours = {"source": source, "files_per_slice": "1", "requests_per_second": "1000", "max_attempts": "2"} | crawl
        variables = {f"PERSONA_HUB_CRAWL__{name.upper()}": value for name, value in ours.items()}
        return load_settings({"PERSONA_HUB_HOME": str(tmp_path / "hub"), **variables})

    return make_settings


def put_index(files: dict[str, bytes], *names: str) -> None:
    entries = [{"id": name, "name": "x", "to": ENDS[name]} for name in names]
    files[INDEX] = json.dumps(entries).encode()


def put_list(files: dict[str, bytes], name: str, count: int = 3, kind: str = "wet") -> str:
    suffix = {"wet": "warc.wet.gz", "warc": "warc.gz", "arc": "arc.gz"}[kind]
    lines = "".join(f"crawl-data/{name}/{kind}/{number}.{suffix}\n" for number in range(count))
    path = f"/crawl-data/{name}/{kind}.paths.gz"
    files[path] = gzip.compress(lines.encode(), mtime=0)
    return path


def read_calendar(settings: Settings) -> list[tuple[str, int, int]]:
    return [(one.id, one.files, one.files_per_slice) for one in load_calendar(settings.calendar).snapshots]


def test_new_snapshots_are_entered_and_unchanged_lists_not_fetched_again(mirror: Mirror, make) -> None:
    old, new = "CC-MAIN-2026-26", "CC-MAIN-2026-30"
    put_index(mirror.files, new, old)
    old_list = put_list(mirror.files, old)
    settings = make(mirror.url + "/", files_per_slice="2")
    report = refresh_calendar(settings)
    assert [one.id for one in report.added] == [old]
    assert report.missing == [f"crawl-data/{new}/wet.paths.gz"]
    assert mirror.take_asked() == [(INDEX, 200), (old_list, 200), (f"/crawl-data/{new}/wet.paths.gz", 404)]
    plan = plan_slice(settings.lake, settings.calendar, f"{old}/00002")
    assert (plan.base, plan.files) == (mirror.url, ((2, f"crawl-data/{old}/wet/2.warc.wet.gz"),))

    new_list = put_list(mirror.files, new, 5)
    report = refresh_calendar(settings)
    assert ([one.id for one in report.added], report.fetched, report.unchanged) == ([new], 1, 1)
    assert mirror.take_asked() == [(INDEX, 304), (old_list, 304), (new_list, 200)]
    assert read_calendar(settings) == [(old, 3, 2), (new, 5, 2)]

    report = refresh_calendar(settings)
    assert (report.added, report.fetched, report.unchanged) == ([], 0, 2)
    assert mirror.take_asked() == [(INDEX, 304), (old_list, 304), (new_list, 304)]


def test_a_host_without_etags_is_asked_by_date(mirror: Mirror, make) -> None:
    mirror.by_date = True
    put_index(mirror.files, "CC-MAIN-2026-26")
    path = put_list(mirror.files, "CC-MAIN-2026-26")
    refresh_calendar(make(mirror.url))
    mirror.take_asked()
    assert refresh_calendar(make(mirror.url)).unchanged == 1
    assert mirror.take_asked() == [(INDEX, 304), (path, 304)]


def test_a_folder_gives_the_same_and_unchanged_lists_are_not_read(tmp_path: Path, make) -> None:
    files: dict[str, bytes] = {}
    put_index(files, "CC-MAIN-2026-26", "CC-MAIN-2026-30")
    for name in ("CC-MAIN-2026-26", "CC-MAIN-2026-30"):
        put_list(files, name)
    for name, data in files.items():
        place = tmp_path / "mirror" / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    settings = make(f"file://{tmp_path / 'mirror'}")
    assert [one.id for one in refresh_calendar(settings).added] == ["CC-MAIN-2026-26", "CC-MAIN-2026-30"]
    assert {one.base for one in load_calendar(settings.calendar).snapshots} == {str(tmp_path / "mirror")}
    assert refresh_calendar(settings).unchanged == 2


def test_the_newest_are_chosen_and_the_oldest_of_them_goes_first(mirror: Mirror, make) -> None:
    put_index(mirror.files, *ENDS)
    for name in ENDS:
        put_list(mirror.files, name)
    settings = make(mirror.url, newest="2")
    assert [one.id for one in refresh_calendar(settings).added] == ["CC-MAIN-2026-26", "CC-MAIN-2026-30"]
    older, newer = load_calendar(settings.calendar).snapshots
    assert older.first_seen < newer.first_seen


def test_other_kinds_are_snapshots_of_their_own(mirror: Mirror, make) -> None:
    name = "CC-MAIN-2026-30"
    put_index(mirror.files, name)
    for kind, count in (("wet", 3), ("warc", 2), ("arc", 1)):
        put_list(mirror.files, name, count, kind)
    settings = make(mirror.url, kinds='["wet", "warc", "arc"]')
    refresh_calendar(settings)
    calendar = load_calendar(settings.calendar)
    assert {one.id: one.files for one in calendar.snapshots} == {name: 3, f"{name}.warc": 2, f"{name}.arc": 1}
    first = NIGHTS.first_from(calendar.snapshots[0].first_seen)
    picked = [pick_slice(calendar, NIGHTS, first + night) for night in range(4)]
    assert [one and one.key.snapshot for one in picked] == [name, name, name, f"{name}.warc"]  # as in the settings
    assert calendar.by_id[name].end_date == datetime(2026, 7, 20, tzinfo=UTC)  # the first one keeps the day
    assert len({one.partition_date for one in calendar.iter_slices()}) == 6
    assert plan_slice(settings.lake, settings.calendar, f"{name}.warc/00002").files == (
        (1, f"crawl-data/{name}/warc/1.warc.gz"),
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda files, name: put_list(files, name, 2), "has changed: 2 files now, 3 known"),
        (lambda files, name: put_list(files, name, 4), "has changed: 4 files now, 3 known"),
        (lambda files, name: files.update({put_list(files, name): b"<html>Sign in</html>"}), "<html>Sign in"),
        (
            lambda files, name: files.update({put_list(files, name): gzip.compress(b"<html>\nSign in\n</html>")}),
            "has in line 1 of 3 '<html>'",
        ),
        (lambda files, name: files.update({put_list(files, name): gzip.compress(b"\n")}), "is empty"),
        (
            lambda files, name: files.update({put_list(files, name): gzip.compress(b"a.warc.wet.gz\n" * 3)}),
            "'a.warc.wet.gz' twice",
        ),
        (
            lambda files, name: files.update({put_list(files, name): gzip.compress(b"../a.warc.wet.gz\n")}),
            "'../a.warc.wet.gz'. Wanted: paths below its base",
        ),
    ],
)
def test_a_list_that_lies_is_told_the_old_one_stays_and_the_rest_goes_on(
    mirror: Mirror, make, spoil: Callable[..., object], says: str
) -> None:
    known, new = "CC-MAIN-2026-26", "CC-MAIN-2026-30"
    put_index(mirror.files, known)
    put_list(mirror.files, known)
    settings = make(mirror.url)
    refresh_calendar(settings)
    before = plan_slice(settings.lake, settings.calendar, f"{known}/00003")

    put_index(mirror.files, known, new)
    put_list(mirror.files, new)
    spoil(mirror.files, known)
    for _ in range(2):  # it is told as long as it lasts
        with pytest.raises(SourceError, match=says):
            refresh_calendar(settings)
        assert read_calendar(settings) == [(known, 3, 1), (new, 3, 1)]
        assert plan_slice(settings.lake, settings.calendar, f"{known}/00003") == before
    put_list(mirror.files, known)
    assert refresh_calendar(settings).faults == []


def test_all_faults_are_named_at_the_end(mirror: Mirror, make) -> None:
    put_index(mirror.files, *ENDS)
    mirror.files[put_list(mirror.files, "CC-MAIN-2026-04")] = gzip.compress(b"nonsense\n")
    put_list(mirror.files, "CC-MAIN-2026-26")
    mirror.status[put_list(mirror.files, "CC-MAIN-2026-30")] = 503
    settings = make(mirror.url)
    with pytest.raises(SourceError, match=r"'nonsense'.*CC-MAIN-2026-30/wet\.paths\.gz .*503") as refused:
        refresh_calendar(settings)
    assert refused.value.retry_helps
    assert read_calendar(settings) == [("CC-MAIN-2026-26", 3, 1)]


def test_a_host_that_is_down_is_not_asked_for_every_list(
    mirror: Mirror, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "GIVE_UP_AFTER", 1)
    put_index(mirror.files, *ENDS)
    for name in ENDS:
        mirror.status[put_list(mirror.files, name)] = 503
    with pytest.raises(SourceError, match="2 lists in a row could not be had; 1 snapshots were not asked for"):
        refresh_calendar(make(mirror.url))
    assert {path for path, _ in mirror.take_asked()} == {
        INDEX,
        "/crawl-data/CC-MAIN-2026-04/wet.paths.gz",
        "/crawl-data/CC-MAIN-2026-30/wet.paths.gz",
    }


def test_old_lists_that_are_refused_for_good_do_not_keep_the_others_away(
    mirror: Mirror, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bucket does that answers 403 where it has no such object."""
    monkeypatch.setattr(refresh, "GIVE_UP_AFTER", 2)
    ends = {f"CC-MAIN-2020-0{number}": f"2020-0{number}-01" for number in range(1, 6)}
    mirror.files[INDEX] = json.dumps([{"id": name, "to": end} for name, end in ends.items()]).encode()
    refused, kept = list(ends)[:3], list(ends)[3:]
    for name in ends:
        path = put_list(mirror.files, name)
        if name in refused:
            mirror.status[path] = 403
    settings = make(mirror.url)
    with pytest.raises(SourceError, match=r"2020-01/wet\.paths\.gz .*403.*2020-02/wet\.paths\.gz .*403") as told:
        refresh_calendar(settings)
    assert "were not asked for" not in str(told.value)
    assert [one.id for one in load_calendar(settings.calendar).snapshots] == kept


def test_an_index_with_a_day_that_none_was_leaves_the_calendar_alone(mirror: Mirror, make) -> None:
    put_index(mirror.files, "CC-MAIN-2026-26")
    put_list(mirror.files, "CC-MAIN-2026-26")
    settings = make(mirror.url)
    refresh_calendar(settings)
    for end in ("0001-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-14:00"):
        mirror.files[INDEX] = json.dumps([{"id": "CC-MAIN-2026-30", "to": end}]).encode()
        put_list(mirror.files, "CC-MAIN-2026-30")
        with pytest.raises(SourceError, match="Wanted: the day on which|OverflowError"):
            refresh_calendar(settings)
        assert [one.id for one in load_calendar(settings.calendar).snapshots] == ["CC-MAIN-2026-26"]


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (b"<html>login</html>", r"collinfo\.json in .* begins with b'<html>login"),
        ("[]".encode("utf-16"), r"collinfo\.json in .*UnicodeDecodeError"),
        (b"[]", "none of the 0 snapshots has a list for wet"),
        (b'[{"id": "CC-MAIN-2026-26", "to": "2026-06-30"}]', "none of the 1 snapshots has a list for wet"),
    ],
)
def test_an_index_that_leads_nowhere_is_refused(mirror: Mirror, make, index: bytes, says: str) -> None:
    mirror.files[INDEX] = index
    settings = make(mirror.url)
    with pytest.raises(SourceError, match=says):
        refresh_calendar(settings)
    assert read_calendar(settings) == []


def test_more_files_than_keys_are_put_into_larger_slices(
    mirror: Mirror, make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Common Crawl's usual 100,000 files are one more than five digits can name; here with two keys."""
    monkeypatch.setattr(refresh, "MAX_SLICES", 2)
    put_index(mirror.files, "CC-MAIN-2026-26")
    put_list(mirror.files, "CC-MAIN-2026-26", 5)
    settings = make(mirror.url)
    with caplog.at_level(logging.INFO):
        refresh_calendar(settings)
    assert read_calendar(settings) == [("CC-MAIN-2026-26", 5, 3)]
    assert "CC-MAIN-2026-26: 3 files in a slice instead of 1, since a snapshot has at most 2 slices" in caplog.messages
    assert "added CC-MAIN-2026-26: 5 files in 2 slices, partition dates from 2026-06-30T00:00:01Z on" in caplog.messages


def test_a_lost_table_is_filled_again_although_its_lists_have_not_changed(mirror: Mirror, make) -> None:
    put_index(mirror.files, "CC-MAIN-2026-26", "CC-MAIN-2026-30")
    for name in ("CC-MAIN-2026-26", "CC-MAIN-2026-30"):
        put_list(mirror.files, name)
    settings = make(mirror.url)
    refresh_calendar(settings)
    before = plan_slice(settings.lake, settings.calendar, "CC-MAIN-2026-26/00002")
    shutil.rmtree(settings.lake)
    assert refresh_calendar(settings).fetched == 2
    assert count_files(settings.lake) == {"CC-MAIN-2026-26": 3, "CC-MAIN-2026-30": 3}
    assert plan_slice(settings.lake, settings.calendar, "CC-MAIN-2026-26/00002") == before


@pytest.mark.parametrize("content", [None, "{", "[]", '{"x": 1}', '{"INDEX": {"mark": "y"}}'])
def test_lost_marks_cost_a_fetch_and_no_more(mirror: Mirror, make, content: str | None) -> None:
    put_index(mirror.files, "CC-MAIN-2026-26")
    put_list(mirror.files, "CC-MAIN-2026-26")
    settings = make(mirror.url)
    refresh_calendar(settings)
    marks = Path(settings.calendar) / "lists.json"
    if content is None:
        marks.unlink()
    else:
        marks.write_text(content.replace("INDEX", mirror.url + INDEX))
    assert refresh_calendar(settings) == RefreshReport(fetched=1)
    assert refresh_calendar(settings) == RefreshReport(unchanged=1)


def test_a_moved_mirror_changes_the_base(mirror: Mirror, make, tmp_path: Path) -> None:
    put_index(mirror.files, "CC-MAIN-2026-26")
    put_list(mirror.files, "CC-MAIN-2026-26")
    first = make(mirror.url)
    refresh_calendar(first)
    moved = make(mirror.url.replace("127.0.0.1", "localhost"))
    refresh_calendar(moved)
    assert [one.base for one in load_calendar(first.calendar).snapshots] == [moved.crawl.source]
    refresh_calendar(first)  # its list has not changed, and yet the base must come back
    assert [one.base for one in load_calendar(first.calendar).snapshots] == [mirror.url]


def test_an_index_elsewhere_is_asked_there(mirror: Mirror, make) -> None:
    put_index(mirror.files, "CC-MAIN-2026-26")
    mirror.files["/other/info.json"] = mirror.files.pop(INDEX)
    path = put_list(mirror.files, "CC-MAIN-2026-26")
    refresh_calendar(make(mirror.url, index=f"{mirror.url}/other/info.json"))
    assert mirror.take_asked() == [("/other/info.json", 200), (path, 200)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("https://data.commoncrawl.org", ("https://index.commoncrawl.org", "collinfo.json")),
        ("s3://commoncrawl", ("https://index.commoncrawl.org", "collinfo.json")),
        ("https://mirror.example/cc", ("https://mirror.example/cc", "collinfo.json")),
        ("/data/cc", ("/data/cc", "collinfo.json")),
    ],
)
def test_common_crawls_index_has_a_host_of_its_own(source: str, found: tuple[str, str]) -> None:
    assert refresh._find_index(source, "") == found


def test_common_crawl_is_not_asked_without_a_contact(make) -> None:
    with pytest.raises(SettingsError, match="set PERSONA_HUB_CRAWL__CONTACT"):
        refresh_calendar(make("https://data.commoncrawl.org"))


@pytest.mark.parametrize("setting", ["source", "index"])
def test_credentials_are_refused_and_stored_nowhere(mirror: Mirror, make, tmp_path: Path, setting: str) -> None:
    address = mirror.url.replace("http://", "http://me:hush@")
    settings = make(address) if setting == "source" else make(mirror.url, index=f"{address}/collinfo.json")
    with pytest.raises(SourceError, match="no credentials belong into an address") as raised:
        refresh_calendar(settings)
    assert "hush" not in str(raised.value)
    assert mirror.asked == []
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"hush" in file.read_bytes()]
