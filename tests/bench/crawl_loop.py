"""The loops that a reader of crawl files is compared with: `crawl_loop.py LOOP OUT WARM FILE ...`, JSON on stdout.

    fastwarc_detect      bare fastwarc, the text decoded, its language detected; nothing is kept
    fastwarc_main_text   bare fastwarc, charset detected, main text by resiliparse; nothing is kept
    warcio_detect        warcio in the manner of cc-pyspark's jobs, the same as the first
    warcio_rows          the same as a job: key, URL, date, text and language as rows in a Parquet file
    warcio_main_text     the same over WARC responses, with main text and language

Runs in the peers' environment. It reads the file WARM, says `ready`, waits for a line, and measures from then on:
imports are not counted.
cc-pyspark's rows also pass through pickle and the JVM on their way to Parquet, which is left out here in its favour.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.lang import detect_fast
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

BATCH_ROWS = 1_000
COLUMNS = ("key", "url", "crawled_at", "text", "language")


def fastwarc_detect(path: str, out: Path) -> int:
    records = 0
    with open(path, "rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.conversion, parse_http=False):
            detect_fast(record.reader.read().decode("utf-8", "replace"))
            records += 1
    return records


def fastwarc_main_text(path: str, out: Path) -> int:
    records = 0
    with open(path, "rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            extract_main_text(record.reader.read(), record.http_charset)
            records += 1
    return records


def extract_main_text(body: bytes, charset: str | None) -> str:
    return extract_plain_text(bytes_to_str(body, charset or detect_encoding(body)), main_content=True)


def warcio_detect(path: str, out: Path) -> int:
    records = 0
    for _, record in iter_warcio(path, "conversion"):
        detect_fast(record.content_stream().read().decode("utf-8", "replace"))
        records += 1
    return records


def warcio_rows(path: str, out: Path) -> int:
    return write_rows(path, "conversion", lambda body: body.decode("utf-8", "replace"), out)


def warcio_main_text(path: str, out: Path) -> int:
    return write_rows(path, "response", lambda body: extract_main_text(body, None), out)


def iter_warcio(path: str, kind: str) -> Iterator[tuple[int, Any]]:
    with open(path, "rb") as stream:
        for number, record in enumerate(WarcioIterator(stream)):
            if record.rec_type == kind:
                yield number, record


def write_rows(path: str, kind: str, decode: Callable[[bytes], str], out: Path) -> int:
    schema, records = pa.schema([(name, pa.string()) for name in COLUMNS]), 0
    rows: list[tuple[str, ...]] = []
    with pq.ParquetWriter(out / f"{Path(path).name}.parquet", schema) as writer:
        for number, record in iter_warcio(path, kind):
            headers = record.rec_headers
            text = decode(record.content_stream().read())
            language = detect_fast(text)[0]
            key = f"{path}/{number}"
            rows.append((key, headers.get_header("WARC-Target-URI"), headers.get_header("WARC-Date"), text, language))
            if len(rows) == BATCH_ROWS:
                records += flush(writer, rows)
        records += flush(writer, rows)
    return records


def flush(writer: pq.ParquetWriter, rows: list[tuple[str, ...]]) -> int:
    if rows:
        columns = [pa.array(column) for column in zip(*rows, strict=True)]
        writer.write_batch(pa.record_batch(columns, schema=writer.schema))
    count = len(rows)
    rows.clear()
    return count


_ALL = (fastwarc_detect, fastwarc_main_text, warcio_detect, warcio_rows, warcio_main_text)
LOOPS = {loop.__name__: loop for loop in _ALL}


def main(loop: str, out: str, warm: str, *paths: str) -> None:
    LOOPS[loop](warm, Path(out))
    print("ready", flush=True)
    sys.stdin.readline()
    begun, cpu = time.monotonic(), time.process_time()
    records = sum(LOOPS[loop](path, Path(out)) for path in paths)
    measured = {
        "records": records,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - begun,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
