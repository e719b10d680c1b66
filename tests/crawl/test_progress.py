"""The progress line of a slice, out of what readers have written."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from persona_hub.crawl.progress import Standing, Watch, format_progress, report_progress
from persona_hub.crawl.staging import FileFailure, FileReport, Staging


@pytest.mark.parametrize(
    ("stand", "seconds", "line"),
    [
        (Standing(files=40), 5.0, "0 of 40 files, 0 pages a second, 0 MB (0.0 MB/s), time left not known yet"),
        (
            Standing(40, earlier=2, done=12, failed=3, pages=8_120, stored_bytes=21_000_000, read=13.0),
            10.0,
            "12 of 40 files, 3 failed, 812 pages a second, 21 MB (2.1 MB/s), 19 s left",
        ),
        (
            Standing(1, pages=1_000, stored_bytes=30_000_000, read=0.2, waiting=1),
            60.0,
            "0 of 1 files, 17 pages a second, 30 MB (0.5 MB/s), 4 min left, 1 waiting for a turn at the host",
        ),
        (Standing(1_000, done=1, read=1.0), 60.0, "1 of 1000 files, 0 pages a second, 0 MB (0.0 MB/s), 16.6 h left"),
        (Standing(2, done=1, failed=1, read=2.0), 0.0, "1 of 2 files, 1 failed, 0 pages a second, 0 MB (0.0 MB/s)"),
    ],
)
def test_the_line(stand: Standing, seconds: float, line: str) -> None:
    assert format_progress(stand, seconds) == line


def test_what_earlier_tries_have_read_is_done_but_no_speed_of_this_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    staging = Staging(tmp_path)
    staging.write_report(1, FileReport(500, 1_000))
    watch = Watch(staging, 6)
    assert watch.look() == Standing(6, earlier=1, done=1)
    staging.write_status(2, {"pages": 30, "bytes": 100, "size": 400, "waits": True})
    staging.write_status(3, {"pages": 10, "bytes": 100, "size": None, "waits": False})
    assert watch.look() == Standing(6, earlier=1, done=1, pages=40, stored_bytes=200, read=0.25, waiting=1)
    staging.write_report(2, FileReport(120, 400, {"files_cut": 1}, "ends early"))  # its status is not gone yet
    staging.write_failure(4, FileFailure("SourceError", "b.gz is gone."))
    # The file of unknown size is taken to be as large as the others.
    assert watch.look() == Standing(6, earlier=1, done=2, failed=1, pages=130, stored_bytes=500, read=2.25)
    watch.look()
    assert [record.getMessage() for record in caplog.records] == [
        "file 2: ends early; the records that could be read are used",
        "file 4: b.gz is gone.",
    ]


def test_the_last_line_comes_whatever_ends_the_block(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyError), report_progress(Staging(tmp_path), 2):
        Staging(tmp_path).write_report(0, FileReport(0, 0))
        raise KeyError("x")
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("ingest_pages: 1 of 2 files, 0 pages a second, 0 MB (0.0 MB/s), ")
