"""The 171 odd and broken files that other readers keep as test data, each read to its end.

`edge_expected.tsv` holds what we read of each; `READERS.tsv` beside the files holds what warcio and fastwarc read of them.
Of the 23 files where our number of records is that of neither, 16 were looked through record by record. To renew the table after a change that is wanted: `python tests/crawl/test_edge.py FOLDER`.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from pathlib import Path

import pytest

from persona_hub.crawl.frames import frame_records
from persona_hub.crawl.members import MemberStream
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.errors import UnreadableFile

EXPECTED = Path(__file__).with_name("edge_expected.tsv")
EDGE = "crawl/edge"
VERSION_ONLY = "a version line without one header: no record, and the file is refused by name"
# By the end of the file's name: why we count fewer records than a reader that read the file through.
FEWER = {
    "utils__arc__data__originals__2-metadata-1.arc": "warcio takes the lines of an index, the body of the second record, for records",
    "utils__arc__data__originals__input-nonarc.arc": "one line of text, which warcio takes for an ARC header",
    "block-sized-records.warc.lz4": "lz4 is not supported: no crawl that we know of is packed so",
    "invalid-warcheaderversion-2.warc": VERSION_ONLY,
    "invalid-warcheaderversion-5.warc": VERSION_ONLY,
    "invalid-warcheaderversion-7.warc": VERSION_ONLY,
    "invalid-warcheaderversion-10.warc": VERSION_ONLY,
    "invalid-warcheaderversion-11.warc": VERSION_ONLY,
    "invalid-warcheaderversion-20.warc": "an empty line, which warcio takes for a record",
    "invalid-warcheaderversion-24.warc": "its one header line has no colon: no record",
}


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def show(counts: Counter[str]) -> str:
    return " ".join(f"{name}={count}" for name, count in sorted(counts.items()))


def read_edge(path: Path) -> dict[str, str]:
    """Everything that is counted of one file, as a row of the table."""
    report, pages, refusals, chars, readable = ReadReport(), 0, Counter[str](), 0, "yes"
    try:
        for page in read_pages(io.BytesIO(path.read_bytes()), path.name, report):
            pages += page.refusal is None
            chars += len(page.text)
            if page.refusal:
                refusals[page.refusal.rule] += 1
    except UnreadableFile:
        readable = "no"
    assert report.stored_bytes == path.stat().st_size
    return {
        "file": path.name,
        "readable": readable,
        "records": show(report.records),
        "faults": show(report.refused),
        "cut": "yes" if report.cut else "no",
        "pages": str(pages),
        "refusals": show(refusals),
        "chars": str(chars),
    }


def test_every_file_gives_what_the_table_says(shared_data: Path) -> None:
    expected = read_table(EXPECTED)
    files = sorted(path for path in (shared_data / EDGE).iterdir() if path.suffix != ".tsv")
    assert len(files) == len(expected) == 171
    assert [read_edge(path) for path in files] == expected


def test_no_file_is_silently_empty(shared_data: Path) -> None:
    for row in read_table(EXPECTED):
        assert row["records"] or row["readable"] == "no", row["file"]


def test_we_read_what_others_read(shared_data: Path) -> None:
    ours = {row["file"]: row["records"] for row in read_table(EXPECTED)}
    fewer = set()
    for row in read_table(shared_data / EDGE / "READERS.tsv"):
        through = [int(row[f"{reader}_records"]) for reader in ("warcio", "fastwarc") if not row[f"{reader}_error"]]
        count = sum(int(part.split("=")[1]) for part in ours[row["file"]].split())
        if count < max(through, default=0):
            [why] = [end for end in FEWER if row["file"].endswith(end)]
            fewer.add(why)
    assert fewer == set(FEWER)


def test_two_readings_are_the_same(shared_data: Path) -> None:
    for path in sorted((shared_data / EDGE).glob("*.arc*")):
        data = path.read_bytes()
        first, second = ([f for f in frame_records(MemberStream(io.BytesIO(data), r), r)] for r in (ReadReport(), ReadReport()))
        assert first == second


def test_an_empty_file_says_so(shared_data: Path) -> None:
    [path] = (shared_data / EDGE).glob("*input-empty.arc")
    with pytest.raises(UnreadableFile, match=r"input-empty\.arc is empty"):
        list(read_pages(io.BytesIO(path.read_bytes()), path.name, ReadReport()))


if __name__ == "__main__":
    rows = [read_edge(path) for path in sorted(Path(sys.argv[1]).iterdir()) if path.suffix != ".tsv"]
    with EXPECTED.open("w", encoding="utf-8", newline="") as table:
        print("\t".join(rows[0]), *("\t".join(row.values()) for row in rows), sep="\n", file=table)
