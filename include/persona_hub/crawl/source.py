"""What a source offers: Common Crawl's snapshots, or a handful of WET files taken as one snapshot."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from persona_hub.core.keys import SLICE_PATTERN
from persona_hub.crawl.files import fetch_bytes, is_url, local_path, open_file
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.records import read_origin
from persona_hub.errors import SourceError

__all__ = ["SnapshotListing", "fetch_bytes", "find_snapshots", "open_file"]

INDEX = "collinfo.json"
WET_SUFFIXES = (".wet.gz", ".wet")
WANTED = f"a mirror with {INDEX} and crawl-data/ID/wet.paths.gz, a folder with *.wet.gz files, a WET file, or a list *.paths.gz"
_ID = re.compile(SLICE_PATTERN.split("/")[0])


def find_snapshots(source: str, newest: int = 1) -> list[SnapshotListing]:
    """Finds the snapshots of a source, the newest first.

    Args:
        source: a mirror as Common Crawl serves it (folder or http(s) address); a folder of WET files; one WET file; or
            the address of a list of paths, which are then relative to the root of its host.
        newest: how many snapshots of a mirror at an address are looked at; in a folder all of them are.

    Raises:
        SourceError: nothing of that kind is there.
        UnreadableFile: the first file is no WARC.
    """
    if is_url(source):
        parts = urlsplit(source)
        root, path = f"{parts.scheme}://{parts.netloc}", unquote(parts.path.lstrip("/"))
        if path.endswith(WET_SUFFIXES):
            return [_list_loose(root, [path])]
        if path.endswith(".paths.gz"):
            return [_list_loose(root, _read_paths(root, path))]
        return _list_mirror(source, newest)
    place = local_path(source)
    if place.is_file() and place.name.endswith(WET_SUFFIXES):
        return [_list_loose(str(place.parent), [place.name])]
    if (place / INDEX).is_file():
        return _list_mirror(str(place), None)
    return [_list_loose(str(place), _find_wet_files(place))]


def _find_wet_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise SourceError(f"{folder} is {'a file of another kind' if folder.exists() else 'not there'}", wanted=WANTED)
    files = sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name.endswith(WET_SUFFIXES) and p.is_file()
    )
    if not files:
        seen = sorted(p.name for p in folder.iterdir())
        raise SourceError(
            f"{folder} holds {', '.join(seen[:8]) or 'nothing'}{' …' if len(seen) > 8 else ''}", wanted=WANTED
        )
    return files


def _list_loose(base: str, paths: Sequence[str]) -> SnapshotListing:
    """Files without an index are one snapshot; what the first one says of itself names and dates it."""
    if not paths:
        raise SourceError(f"The list at {base} names no file", wanted="one path a line")
    with open_file(base, paths[0]) as stream:
        origin = read_origin(stream, paths[0])
    if origin.date is None:
        raise SourceError(f"{paths[0]} has no WARC-Date in its first record", wanted="a date for the snapshot")
    if origin.part_of and _ID.fullmatch(origin.part_of):
        name = origin.part_of
    else:
        name = (
            "LOCAL-" + hashlib.blake2b("\n".join(paths).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        )
    return SnapshotListing(name, _start_of_day(origin.date), tuple(paths), base)


def _list_mirror(base: str, newest: int | None) -> list[SnapshotListing]:
    listings: list[SnapshotListing] = []
    faults: list[str] = []
    for name, end_date in _read_index(base)[:newest]:
        path = f"crawl-data/{name}/wet.paths.gz"
        if not is_url(base) and not (local_path(base) / path).is_file():
            faults.append(f"no {path}")
            continue
        listings.append(SnapshotListing(name, end_date, tuple(_read_paths(base, path)), base))
    if not listings:
        raise SourceError(
            f"{INDEX} in {base} leads to no list of files: {'; '.join(faults[:3]) or 'it is empty'}", wanted=WANTED
        )
    return listings


def _read_index(base: str) -> list[tuple[str, datetime]]:
    """Ids and end dates, the newest first."""
    data = fetch_bytes(base, INDEX)
    try:
        entries = [(entry["id"], datetime.fromisoformat(entry["to"])) for entry in json.loads(data)]
        if bad := [name for name, _ in entries if not _ID.fullmatch(name)]:
            raise ValueError(f"the id {bad[0]!r}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SourceError(
            f"{INDEX} in {base} cannot be read ({type(error).__name__}: {error}); it begins with {data[:64]!r}",
            wanted='a JSON list of {"id", "to", …} as index.commoncrawl.org serves it',
            cure="check the address; a login page or a proxy may have answered",
        ) from None
    return sorted(((name, _start_of_day(end)) for name, end in entries), key=lambda entry: entry[1], reverse=True)


def _read_paths(base: str, path: str) -> list[str]:
    lines = fetch_bytes(base, path).decode("utf-8", "surrogateescape").splitlines()
    paths = [line.strip() for line in lines if line.strip()]
    if not paths:
        raise SourceError(f"{path} in {base} is empty", wanted="one path a line")
    return paths


def _start_of_day(moment: datetime) -> datetime:
    aware = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.replace(hour=0, minute=0, second=0, microsecond=0)
