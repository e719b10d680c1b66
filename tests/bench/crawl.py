"""Benches of reading the crawl: `python tests/bench/crawl.py [part ...]`.

    wet       records of WET files → rows with key, text and language, out of Spark's workers
    warc      responses of WARC files → rows with the page's main text, out of Spark's workers
    rules     the page rules on real pages
    whole     crawl file → pages that the rules keep, beside datatrove
    linear    a whole ingest_pages of 1, 4 and 16 files, and of one file of a gigabyte: seconds and memory
    calendar  the timetable's look-up with 120 snapshots, and the planning of a slice out of 100,000 files

They read the real crawl files of the test data (HUB_TEST_DATA). Peers run in an environment of their own, made once in
.hub/bench-peers-crawl. Ratios are what counts: run it on a machine that does nothing else. Without a part it runs all
of them (half an hour).
"""

from __future__ import annotations

from bench_main import run_parts

PARTS = ("wet", "warc", "rules", "whole", "linear", "calendar")

if __name__ == "__main__":
    run_parts("crawl", PARTS, __doc__)
