"""What a source offers: mirrors and loose files, in folders and at an address (fetching itself: test_fetch.py)."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from persona_hub.crawl import source
from persona_hub.crawl.files import Access, make_access, open_file
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.source import find_base, parse_index, parse_paths
from persona_hub.errors import SettingsError, SourceError, UnreadableFile
from persona_hub.settings import load_settings

Find = Callable[..., list[SnapshotListing]]
SAMPLE = "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"


def make_wet(day: str = "2026-10-05", part_of: str = "") -> bytes:
    body = f"isPartOf: {part_of}\r\n".encode() if part_of else b"publisher: me\r\n"
    head = f"WARC/1.0\r\nWARC-Type: warcinfo\r\nWARC-Date: {day}T23:30:00Z\r\nContent-Length: {len(body)}\r\n\r\n"
    return gzip.compress(head.encode() + body + b"\r\n\r\n", mtime=0)


class Site:
    """What the server serves, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.html = b""  # answered to everything, with 200
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            body = site.html or site.files.get(self.path)
            if body is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if site.html else "application/gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
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


@pytest.fixture
def access(tmp_path_factory: pytest.TempPathFactory) -> Access:
    home = tmp_path_factory.mktemp("hub")
    settings = load_settings({"PERSONA_HUB_HOME": str(home), "PERSONA_HUB_CRAWL__REQUESTS_PER_SECOND": "1000"})
    return replace(make_access(settings), backoff_s=0.001)


@pytest.fixture
def find_snapshots(access: Access) -> Callable[..., list[SnapshotListing]]:
    def find(place: object, **arguments: int) -> list[SnapshotListing]:
        return source.find_snapshots(str(place), access, **arguments)

    return find


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


def test_folder_mirror_gives_every_snapshot_with_a_list(tmp_path: Path, find_snapshots: Find) -> None:
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


def test_mirror_at_an_address_is_asked_for_the_newest_only(site: Site, find_snapshots: Find) -> None:
    put_mirror(site.files)
    [listing] = find_snapshots(site.url + "/")
    assert (listing.id, len(listing.paths)) == ("CC-MAIN-2026-30", 2)
    assert site.asked == ["/collinfo.json", "/crawl-data/CC-MAIN-2026-30/wet.paths.gz"]
    assert [found.id for found in find_snapshots(site.url, newest=2)] == ["CC-MAIN-2026-30", "CC-MAIN-2026-26"]


def test_real_list_of_snapshots_and_files_is_read(tmp_path: Path, shared_data: Path, find_snapshots: Find) -> None:
    real = shared_data / "crawl/common-crawl"
    listing = (real / "CC-MAIN-2026-30.wet.paths.gz").read_bytes()
    put_folder(
        tmp_path,
        {"collinfo.json": (real / "collinfo.json").read_bytes(), "crawl-data/CC-MAIN-2025-47/wet.paths.gz": listing},
    )
    [snapshot] = find_snapshots(str(tmp_path))
    assert (snapshot.id, snapshot.end_date) == ("CC-MAIN-2025-47", datetime(2025, 11, 19, tzinfo=UTC))
    assert len(snapshot.paths) == 100_000


def test_folder_of_wet_files_is_one_snapshot(tmp_path: Path, find_snapshots: Find) -> None:
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


def test_single_file_is_one_snapshot(shared_data: Path, site: Site, find_snapshots: Find, access: Access) -> None:
    [listing] = find_snapshots(str(shared_data / SAMPLE))
    assert (listing.id, listing.end_date) == ("CC-MAIN-2020-50", datetime(2020, 12, 8, tzinfo=UTC))
    with open_file(listing.base, listing.paths[0], access) as stream:
        assert stream.read() == (shared_data / SAMPLE).read_bytes()
    site.files["/deep/one.warc.wet.gz"] = make_wet()
    [remote] = find_snapshots(f"{site.url}/deep/one.warc.wet.gz")
    assert (remote.base, remote.paths) == (site.url, ("deep/one.warc.wet.gz",))


def test_address_of_a_list_takes_its_paths_from_the_root(site: Site, find_snapshots: Find) -> None:
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
def test_folder_without_crawl_files_says_what_was_found(
    tmp_path: Path, files: dict[str, bytes], message: str, find_snapshots: Find
) -> None:
    put_folder(tmp_path, files)
    with pytest.raises(SourceError, match=message):
        find_snapshots(str(tmp_path))


def test_other_sources_are_refused(tmp_path: Path, find_snapshots: Find) -> None:
    with pytest.raises(SourceError, match=r"is not there\. Wanted: a mirror"):
        find_snapshots(str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="ftp://host/x"):
        find_snapshots("ftp://host/x")
    (tmp_path / "fake.warc.wet.gz").write_bytes(b"<html>")
    with pytest.raises(UnreadableFile, match=r"fake\.warc\.wet\.gz begins with b'<html>'"):
        find_snapshots(str(tmp_path))


def test_page_with_200_is_no_list_of_snapshots(site: Site, find_snapshots: Find) -> None:
    site.html = b"<!DOCTYPE html><title>Sign in</title>"
    with pytest.raises(SourceError, match="begins with b'<!DOCTYPE html>"):
        find_snapshots(site.url)


@pytest.mark.parametrize(
    ("names", "taken", "snapshot"),
    [
        (("a.warc.gz", "b/c.warc.wet.gz", "d.arc.gz", "e.warc.wat.gz"), ("b/c.warc.wet.gz",), "CC-MAIN-2026-40"),
        (("a.warc.gz", "b.warc.zst", "c.warc", "d.arc"), ("a.warc.gz", "b.warc.zst", "c.warc"), "CC-MAIN-2026-40.warc"),
        (("d.arc.gz", "x.wet.txt"), ("d.arc.gz",), "CC-MAIN-2026-40.arc"),
        (("a.wet.zst",), ("a.wet.zst",), "CC-MAIN-2026-40"),
    ],
)
def test_files_of_one_kind_are_taken(
    tmp_path: Path, find_snapshots: Find, names: tuple[str, ...], taken: tuple[str, ...], snapshot: str
) -> None:
    """The same pages as WET and as WARC would be read twice. A name says the kind; the content is what it is."""
    put_folder(tmp_path, dict.fromkeys(names, make_wet(part_of="CC-MAIN-2026-40")))
    [listing] = find_snapshots(tmp_path)
    assert (listing.paths, listing.id) == (taken, snapshot)


def test_a_real_warc_file_is_a_snapshot_of_its_own(shared_data: Path, find_snapshots: Find) -> None:
    [listing] = find_snapshots(shared_data / "crawl/common-crawl/whirlwind.warc.gz")
    assert (listing.id, listing.paths) == ("CC-MAIN-2024-22.warc", ("whirlwind.warc.gz",))


def test_real_index_is_read_and_sorted(shared_data: Path) -> None:
    entries = parse_index((shared_data / "crawl/common-crawl/collinfo.json").read_bytes(), "here")
    assert len(entries) == 118
    assert entries[0] == ("CC-MAIN-2025-47", datetime(2025, 11, 19, tzinfo=UTC))
    assert entries[-1] == ("CC-MAIN-2008-2009", datetime(2009, 1, 9, tzinfo=UTC))


def test_index_that_names_a_snapshot_twice_is_refused() -> None:
    twice = [{"id": "A", "to": "2026-01-01"}, {"id": "A", "to": "2026-02-01"}]
    with pytest.raises(SourceError, match="a snapshot is named twice"):
        parse_index(json.dumps(twice).encode(), "here")


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"\n \n", "wet", "here is empty. Wanted: one path a line"),
        (b"a/1.warc.wet.gz\n<html>\n", "wet", "here has in line 2 of 2 '<html>'. Wanted: paths of WET files"),
        (b"a/1.warc.gz\n", "wet", "in line 1 of 1 'a/1.warc.gz'. Wanted: paths of WET files"),
        (b"a/1.warc.wet.gz\n", "warc", "Wanted: paths of WARC files, which end in .warc.gz or .warc.zst or .warc"),
        (b"a/1.warc.wat.gz\n", "", "in line 1 of 1 'a/1.warc.wat.gz'. Wanted: paths of crawl files"),
    ],
)
def test_list_of_something_else_is_refused(data: bytes, kind: str, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        parse_paths(data, "here", kind)


def test_lines_of_a_list_may_end_in_any_way() -> None:
    assert parse_paths(b"a.arc.gz\r\n\n  b.arc.gz\n", "here", "arc") == ["a.arc.gz", "b.arc.gz"]


def test_common_crawl_is_not_asked_without_a_contact(find_snapshots: Find) -> None:
    with pytest.raises(SettingsError, match="set PERSONA_HUB_CRAWL__CONTACT"):
        find_snapshots("https://data.commoncrawl.org")


@pytest.mark.parametrize("source", ["https://me:hush@a.example", "s3://KEY:hush@bucket/x.wet.gz", "file://me:hush@host/x"])
def test_source_with_credentials_is_refused(find_snapshots: Find, source: str) -> None:
    for found in (lambda: find_snapshots(source), lambda: find_base(source)):
        with pytest.raises(SourceError, match="no credentials belong into an address") as raised:
            found()
        assert "hush" not in str(raised.value)
