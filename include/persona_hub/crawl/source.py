"""What a source offers: Common Crawl's snapshots, or a handful of crawl files taken as one snapshot."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from persona_hub.core.keys import SLICE_PATTERN
from persona_hub.crawl.files import (
    Access,
    fetch_bytes,
    is_bucket,
    is_url,
    local_path,
    open_file,
    refuse_credentials,
)
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.records import read_origin
from persona_hub.errors import SourceError

INDEX = "collinfo.json"
SUFFIXES = {kind: tuple(f".{kind}{packed}" for packed in (".gz", ".zst", "")) for kind in ("wet", "warc", "arc")}
"""By kind, what its files end in; a WET file is `.warc.wet.gz`, so it is none of the WARC files."""
WANTED = (
    f"a mirror with {INDEX} and crawl-data/ID/wet.paths.gz, a folder of *.wet.gz, *.warc.gz or *.arc.gz files, "
    "one such file, or a list *.paths.gz"
)
_ID = re.compile(SLICE_PATTERN.split("/")[0])


def find_snapshots(source: str, access: Access, newest: int = 1) -> list[SnapshotListing]:
    """Finds the WET snapshots of a mirror, or the one snapshot that loose files are; the newest first.

    Args:
        source: a mirror as Common Crawl serves it (folder, http(s) or s3 address); a folder of crawl files, of which
            those of one kind are taken, WET before WARC before ARC; one crawl file; or the address of a list of
            paths, which are then relative to the root of its host.
        access: how to go to a host.
        newest: how many snapshots of a mirror at an address are looked at; in a folder all of them are.

    Raises:
        SourceError: nothing of that kind is there, or the address holds credentials.
        UnreadableFile: the first file is no WARC.
    """
    refuse_credentials(source)
    if is_url(source) or is_bucket(source):
        parts = urlsplit(source)
        root, path = f"{parts.scheme}://{parts.netloc}", unquote(parts.path.lstrip("/"))
        if _find_kind(path):
            return [_list_loose(root, [path], access)]
        if path.endswith(".paths.gz"):
            return [_list_loose(root, parse_paths(fetch_bytes(root, path, access), f"{path} in {root}"), access)]
        return _list_mirror(source, newest, access)
    place = local_path(source)
    if place.is_file() and _find_kind(place.name):
        return [_list_loose(str(place.parent), [place.name], access)]
    if (place / INDEX).is_file():
        return _list_mirror(str(place), None, access)
    return [_list_loose(str(place), _find_files(place), access)]


def name_snapshot(crawl: str, kind: str) -> str:
    """A crawl's files of one kind as a snapshot: `CC-MAIN-2026-30` of its WET files, `CC-MAIN-2026-30.warc`."""
    return crawl if kind == "wet" else f"{crawl}.{kind}"


def parse_index(data: bytes, place: str) -> list[tuple[str, datetime]]:
    """Ids and end dates of collinfo.json, the newest first.

    Args:
        data: the file.
        place: where it is, for the message.

    Raises:
        SourceError: it is no such list, or names a snapshot twice.
    """
    try:
        listed = json.loads(data.decode("utf-8-sig"))
        entries = [(entry["id"], _begin_day(datetime.fromisoformat(entry["to"]))) for entry in listed]
        if bad := [name for name, _ in entries if not _ID.fullmatch(name)]:
            raise ValueError(f"the id {bad[0]!r}")
        if len(dict(entries)) < len(entries):
            raise ValueError("a snapshot is named twice")
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise SourceError(
            f"{place} cannot be read ({type(error).__name__}: {error}); it begins with {data[:64]!r}",
            wanted='a JSON list of {"id", "to", …} as index.commoncrawl.org serves it',
            cure="check the address; a login page or a proxy may have answered",
        ) from None
    return sorted(entries, key=lambda entry: entry[1], reverse=True)


def parse_paths(data: bytes, place: str, kind: str = "") -> list[str]:
    """The paths of a list, one a line.

    Args:
        data: the list, inflated.
        place: where it is, for the message.
        kind: wet, warc or arc: what all of them must be; anything that we read if empty.

    Raises:
        SourceError: it is empty, or a line is no path of such a file: a page, a list of another kind.
    """
    lines = (line.strip() for line in data.decode("utf-8", "surrogateescape").split("\n"))
    paths = [line for line in lines if line]
    if not paths:
        raise SourceError(f"{place} is empty", wanted="one path a line")
    suffixes = SUFFIXES[kind] if kind else tuple(suffix for all_of in SUFFIXES.values() for suffix in all_of)
    bad = next((number for number, path in enumerate(paths, 1) if not path.endswith(suffixes)), None)
    if bad:
        raise SourceError(
            f"{place} has in line {bad} of {len(paths)} {paths[bad - 1]!r:.200}",
            wanted=f"paths of {kind.upper() or 'crawl'} files, which end in {' or '.join(suffixes)}",
            cure="check the address; a login page or a proxy may have answered",
        )
    return paths


def _find_kind(name: str) -> str | None:
    return next((kind for kind, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)


def _find_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise SourceError(f"{folder} is {'a file of another kind' if folder.exists() else 'not there'}", wanted=WANTED)
    seen = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for suffixes in SUFFIXES.values():
        if files := [path for path in seen if path.endswith(suffixes)]:
            return files
    raise SourceError(
        f"{folder} holds {', '.join(seen[:8]) or 'nothing'}{' …' if len(seen) > 8 else ''}", wanted=WANTED
    )


def _list_loose(base: str, paths: Sequence[str], access: Access) -> SnapshotListing:
    """Files without an index are one snapshot; what the first one says of itself names and dates it."""
    with open_file(base, paths[0], access) as stream:
        origin = read_origin(stream, paths[0])
    if origin.date is None:
        raise SourceError(f"{paths[0]} has no date in its first record", wanted="a date for the snapshot")
    if origin.part_of and _ID.fullmatch(origin.part_of):
        name = name_snapshot(origin.part_of, _find_kind(paths[0]) or "wet")
    else:
        name = (
            "LOCAL-" + hashlib.blake2b("\n".join(paths).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        )
    return SnapshotListing(name, _begin_day(origin.date), tuple(paths), base)


def _list_mirror(base: str, newest: int | None, access: Access) -> list[SnapshotListing]:
    listings: list[SnapshotListing] = []
    faults: list[str] = []
    for name, end_date in parse_index(fetch_bytes(base, INDEX, access), f"{INDEX} in {base}")[:newest]:
        path = f"crawl-data/{name}/wet.paths.gz"
        if not is_url(base) and not is_bucket(base) and not (local_path(base) / path).is_file():
            faults.append(f"no {path}")
            continue
        paths = parse_paths(fetch_bytes(base, path, access), f"{path} in {base}", "wet")
        listings.append(SnapshotListing(name, end_date, tuple(paths), base))
    if not listings:
        raise SourceError(
            f"{INDEX} in {base} leads to no list of files: {'; '.join(faults[:3]) or 'it is empty'}", wanted=WANTED
        )
    return listings


def find_base(source: str) -> str:
    """A mirror's address as the calendar keeps it: a folder by its whole path, since others read it from elsewhere.

    Raises:
        SourceError: an address of a kind that is not read, or one with credentials.
    """
    refuse_credentials(source)
    return source.rstrip("/") if is_url(source) or is_bucket(source) else str(local_path(source))


def _begin_day(moment: datetime) -> datetime:
    aware = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.replace(hour=0, minute=0, second=0, microsecond=0)
