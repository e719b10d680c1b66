"""Sources of crawl files: folders, and a loopback server that behaves well and badly."""

import gzip
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from persona_hub.crawl import fetch
from persona_hub.crawl.source import fetch_bytes, find_snapshots, open_file
from persona_hub.errors import SourceError, UnreadableFile

SAMPLE = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"


def make_wet(day: str = "2026-10-05", part_of: str = "") -> bytes:
    body = f"isPartOf: {part_of}\r\n".encode() if part_of else b"publisher: me\r\n"
    head = f"WARC/1.0\r\nWARC-Type: warcinfo\r\nWARC-Date: {day}T23:30:00Z\r\nContent-Length: {len(body)}\r\n\r\n"
    return gzip.compress(head.encode() + body + b"\r\n\r\n", mtime=0)


class Site:
    """What the server serves, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.html = b""  # answered to everything, with 200
        self.faults: list[int] = []  # status codes of the next answers
        self.break_after: list[int] = []  # bytes after which the next answers break off
        self.ranges = True
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers["Range"], self.headers["User-Agent"]))
            if site.faults:
                return self.send_error(site.faults.pop(0))
            body = site.html or site.files.get(self.path)
            if body is None:
                return self.send_error(404)
            start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and site.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", "text/html" if site.html else "application/gzip")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            stop = site.break_after.pop(0) if site.break_after else len(body)
            self.wfile.write(body[start : start + stop])
            return None

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # readers of a first record hang up early

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        yield site
        server.shutdown()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.001)


def put_mirror(write: dict[str, bytes]) -> None:
    ends = {
        "CC-MAIN-2026-26": "2026-06-30T11:00:00",
        "CC-MAIN-2026-30": "2026-07-20T01:02:03",
        "CC-MAIN-2026-04": "2026-01-31T00:00:00",
    }
    write["/collinfo.json"] = json.dumps([{"id": name, "name": "x", "to": end} for name, end in ends.items()]).encode()
    for name in ("CC-MAIN-2026-26", "CC-MAIN-2026-30"):
        listing = f"crawl-data/{name}/wet/a.warc.wet.gz\ncrawl-data/{name}/wet/b.warc.wet.gz\n\n"
        write[f"/crawl-data/{name}/wet.paths.gz"] = gzip.compress(listing.encode())


def put_folder(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_folder_mirror_gives_every_snapshot_with_a_list(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    put_mirror(files)
    put_folder(tmp_path, files)
    newest, older = find_snapshots(f"file://{tmp_path}")
    assert (newest.id, newest.end_date, newest.base) == (
        "CC-MAIN-2026-30",
        datetime(2026, 7, 20, tzinfo=UTC),
        str(tmp_path),
    )
    assert newest.paths == (
        "crawl-data/CC-MAIN-2026-30/wet/a.warc.wet.gz",
        "crawl-data/CC-MAIN-2026-30/wet/b.warc.wet.gz",
    )
    assert older.id == "CC-MAIN-2026-26"


def test_mirror_at_an_address_is_asked_for_the_newest_only(site: Site) -> None:
    put_mirror(site.files)
    [listing] = find_snapshots(site.url + "/")
    assert (listing.id, len(listing.paths)) == ("CC-MAIN-2026-30", 2)
    assert [asked[0] for asked in site.asked] == ["/collinfo.json", "/crawl-data/CC-MAIN-2026-30/wet.paths.gz"]
    assert [found.id for found in find_snapshots(site.url, newest=2)] == ["CC-MAIN-2026-30", "CC-MAIN-2026-26"]
    assert {asked[2] for asked in site.asked} == {fetch.USER_AGENT}


def test_real_list_of_snapshots_and_files_is_read(tmp_path: Path, shared_data: Path) -> None:
    real = shared_data / "crawl/common-crawl"
    listing = (real / "CC-MAIN-2026-30.wet.paths.gz").read_bytes()
    put_folder(
        tmp_path,
        {"collinfo.json": (real / "collinfo.json").read_bytes(), "crawl-data/CC-MAIN-2025-47/wet.paths.gz": listing},
    )
    [snapshot] = find_snapshots(str(tmp_path))
    assert (snapshot.id, snapshot.end_date) == ("CC-MAIN-2025-47", datetime(2025, 11, 19, tzinfo=UTC))
    assert len(snapshot.paths) == 100_000


def test_folder_of_wet_files_is_one_snapshot(tmp_path: Path) -> None:
    put_folder(
        tmp_path,
        {"b.warc.wet": b"", "a/x.warc.wet.gz": make_wet(), "a/y.wet.gz": b"", "a/y.warc.gz": b"", "z.txt": b""},
    )
    [listing] = find_snapshots(str(tmp_path))
    assert listing.paths == ("a/x.warc.wet.gz", "a/y.wet.gz", "b.warc.wet")
    assert (listing.id, listing.end_date) == ("LOCAL-fb1ebb6b", datetime(2026, 10, 5, tzinfo=UTC))
    (tmp_path / "a/x.warc.wet.gz").write_bytes(make_wet(part_of="CC-MAIN-2026-99"))
    assert find_snapshots(str(tmp_path))[0].id == "CC-MAIN-2026-99"
    (tmp_path / "a/x.warc.wet.gz").write_bytes(make_wet(part_of="../../etc"))
    assert find_snapshots(str(tmp_path))[0].id == "LOCAL-fb1ebb6b"


def test_single_file_is_one_snapshot(shared_data: Path, site: Site) -> None:
    [listing] = find_snapshots(str(shared_data / SAMPLE))
    assert (listing.id, listing.end_date) == ("CC-MAIN-2020-50", datetime(2020, 12, 8, tzinfo=UTC))
    with open_file(listing.base, listing.paths[0]) as stream:
        assert stream.read() == (shared_data / SAMPLE).read_bytes()
    site.files["/deep/one.warc.wet.gz"] = make_wet()
    [remote] = find_snapshots(f"{site.url}/deep/one.warc.wet.gz")
    assert (remote.base, remote.paths) == (site.url, ("deep/one.warc.wet.gz",))


def test_address_of_a_list_takes_its_paths_from_the_root(site: Site) -> None:
    site.files["/some/where/wet.paths.gz"] = gzip.compress(b"x/1.warc.wet.gz\nx/2.warc.wet.gz\n")
    site.files["/x/1.warc.wet.gz"] = make_wet(part_of="CC-MAIN-2026-31")
    [listing] = find_snapshots(f"{site.url}/some/where/wet.paths.gz")
    assert (listing.id, listing.base, listing.paths) == (
        "CC-MAIN-2026-31",
        site.url,
        ("x/1.warc.wet.gz", "x/2.warc.wet.gz"),
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds nothing"),
        ({"notes.txt": b""}, r"holds notes\.txt"),
        ({"collinfo.json": b"<html>login</html>"}, r"collinfo\.json .* begins with b'<html>login"),
        ({"collinfo.json": b'{"id": 1}'}, r"collinfo\.json .* cannot be read"),
        ({"collinfo.json": b'[{"id": "../x", "to": "2026-01-01"}]'}, r"the id '\.\./x'"),
        ({"collinfo.json": b'[{"id": "CC-1", "to": "2026-01-01"}]'}, r"no crawl-data/CC-1/wet\.paths\.gz"),
        (
            {"collinfo.json": b'[{"id": "CC-1", "to": "2026-01-01"}]', "crawl-data/CC-1/wet.paths.gz": b"<html>"},
            r"wet\.paths\.gz in .* begins with b'<html>'.*a whole gzip file",
        ),
    ],
)
def test_folder_without_crawl_files_says_what_was_found(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    put_folder(tmp_path, files)
    with pytest.raises(SourceError, match=message):
        find_snapshots(str(tmp_path))


def test_other_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is not there\. Wanted: a mirror"):
        find_snapshots(str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="s3://bucket/x"):
        find_snapshots("s3://bucket/x")
    (tmp_path / "fake.warc.wet.gz").write_bytes(b"<html>")
    with pytest.raises(UnreadableFile, match=r"fake\.warc\.wet\.gz begins with b'<html>'"):
        find_snapshots(str(tmp_path))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "http://elsewhere.example/x", "a\0b"])
def test_path_that_leaves_its_base_is_refused(tmp_path: Path, site: Site, path: str) -> None:
    for base in (str(tmp_path), site.url):
        with pytest.raises(SourceError, match="leaves its base"):
            open_file(base, path)
    assert site.asked == []


def test_missing_file_is_named_with_its_base(tmp_path: Path, site: Site) -> None:
    with pytest.raises(SourceError, match=f"No file 'x.wet.gz' can be read in {tmp_path}"):
        open_file(str(tmp_path), "x.wet.gz")
    with pytest.raises(SourceError, match=rf"{site.url}/x\.wet\.gz answered 404"):
        open_file(site.url, "x.wet.gz")
    assert len(site.asked) == 1  # a 404 is not asked again


def test_html_with_200_is_no_gzip(site: Site) -> None:
    site.html = b"<!DOCTYPE html><title>Sign in</title>"
    with pytest.raises(SourceError, match=r"gave text/html that begins with b'<!DOCTYPE html>.*Wanted: a gzip file"):
        open_file(site.url, "x.warc.wet.gz")
    with pytest.raises(SourceError, match="begins with b'<!DOCTYPE html>"):
        find_snapshots(site.url)


def test_server_faults_are_tried_again(site: Site) -> None:
    site.files["/list.txt"] = b"hello"
    site.faults = [503, 500, 429]
    assert fetch_bytes(site.url, "list.txt") == b"hello"
    site.faults = [503] * 9
    with pytest.raises(SourceError, match=r"answered 503 .*, 4 times"):
        fetch_bytes(site.url, "list.txt")
    assert len(site.asked) == 8


def test_nobody_listening_is_said() -> None:
    with pytest.raises(SourceError, match=r"cannot be reached: .*refused"):
        fetch_bytes("http://127.0.0.1:9", "collinfo.json")


def test_broken_connection_goes_on_where_it_broke(site: Site, shared_data: Path) -> None:
    stored = (shared_data / SAMPLE).read_bytes()
    site.files["/a.wet.gz"] = stored
    site.break_after = [100_000, 300_000]
    with open_file(site.url, "a.wet.gz") as stream:
        assert stream.read() == stored
    assert [asked[1] for asked in site.asked] == [None, "bytes=100000-", "bytes=400000-"]


def test_broken_connection_without_ranges_is_no_short_file(site: Site, shared_data: Path) -> None:
    site.files["/a.wet.gz"] = (shared_data / SAMPLE).read_bytes()
    site.break_after, site.ranges = [100_000], False
    with open_file(site.url, "a.wet.gz") as stream, pytest.raises(SourceError, match="broke off after 100000 bytes"):
        stream.read()


def test_bomb_of_a_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_hub.crawl.files.MAX_LIST", 10_000)
    bomb = io.BytesIO()
    with gzip.open(bomb, "wb") as stream:
        stream.write(b"\n" * 1_000_000)
    (tmp_path / "x.paths.gz").write_bytes(bomb.getvalue())
    with pytest.raises(SourceError, match="larger than 10000 bytes"):
        fetch_bytes(str(tmp_path), "x.paths.gz")
