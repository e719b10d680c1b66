"""Real records, damaged at random: nothing but our own errors comes out, and memory stays bounded.

HUB_FUZZ_SECONDS says how long (5 by default), HUB_FUZZ_SEED where it begins; a failure names its seed.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.errors import HubError

SECONDS = float(os.environ.get("HUB_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("HUB_FUZZ_SEED", "0"))
SLOWEST_S = 20.0


def flip(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice([1, 3, 30])):
        data[dice.randrange(len(data))] = dice.randrange(256)


def cut(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def drop(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    del data[start : start + dice.randrange(1, 5000)]


def repeat(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    data[start:start] = data[start : start + dice.randrange(1, 5000)]


def splice(data: bytearray, dice: random.Random) -> None:
    start, other = dice.randrange(len(data)), dice.randrange(len(data))
    data[start:start] = data[other : other + dice.randrange(1, 50_000)]


def lie(data: bytearray, dice: random.Random) -> None:
    """A length, a chunk size or an encoding that is not true."""
    lies = [b"1000000000000", b"-1", b"0", b"99999999999999999999999", b"7e3", b""]
    if (at := data.find(b"Content-Length: ", dice.randrange(len(data)))) >= 0:
        data[at + 16 : data.find(b"\r", at)] = dice.choice(lies)
    if (at := data.find(b"Content-Type: ", dice.randrange(len(data)))) >= 0:
        codings = [b"Content-Encoding: br", b"Content-Encoding: deflate, gzip", b"Transfer-Encoding: chunked", b"X-Robots-Tag: :,:"]
        data[at:at] = dice.choice(codings) + b"\r\n"


def insert_magic(data: bytearray, dice: random.Random) -> None:
    """What begins a member, a frame or a record, where none begins."""
    start = dice.randrange(len(data))
    starts = [b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\xff\xff\xff\xff", b"\nWARC/1.0\r\nA:", b"\0" * 600, b"\r\n" * 900]
    data[start:start] = dice.choice(starts)


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [flip, cut, drop, repeat, splice, lie, insert_magic]
PACKINGS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, zstandard.compress]


def read_all(data: bytes) -> int:
    """Reads a file to its end, or to our own error."""
    try:
        return sum(1 for _ in read_pages(io.BytesIO(data), "fuzzed", ReadReport()))
    except HubError:
        return 0


def test_damaged_files_raise_nothing_but_our_errors(shared_data: Path) -> None:
    edge = [path.read_bytes() for path in sorted((shared_data / "crawl/edge").iterdir()) if 0 < path.stat().st_size < 60_000]
    wet = (shared_data / "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz").read_bytes()[:60_000]
    sources = [*edge, wet]
    seed, pages, ends = SEED, 0, time.monotonic() + SECONDS
    while time.monotonic() < ends:
        dice = random.Random(seed)
        data = bytearray(dice.choice(sources))
        late = dice.random() < 0.5  # damage what is packed, or pack what is damaged
        pack = dice.choice(PACKINGS)
        if late:
            data = bytearray(pack(bytes(data)))
        for _ in range(dice.randrange(1, 4)):
            if data:
                dice.choice(DAMAGES)(data, dice)
        began = time.monotonic()
        try:
            pages += read_all(bytes(data) if late else pack(bytes(data)))
        except Exception as error:
            pytest.fail(f"HUB_FUZZ_SEED={seed}: {error!r}")
        assert time.monotonic() - began < SLOWEST_S, f"HUB_FUZZ_SEED={seed} is slow"
        seed += 1
    assert seed - SEED > 20
    assert pages > 0


MONSTERS = {
    "a length of a trillion": "data = head(b'conversion', 10**12) + b'\\r\\n' + b'x' * 1000",
    "a gzip bomb": "data = gzip.compress(head(b'conversion', 10**12) + b'\\r\\n' + bytes(400_000_000), 9)",
    "a zstd bomb": "data = zstandard.compress(head(b'conversion', 10**12) + b'\\r\\n' + bytes(400_000_000))",
    "a header of 50 MB": "data = gzip.compress(head(b'conversion', 5) + b'A: ' + b'x' * 50_000_000 + b'\\r\\n\\r\\nhello', 1)",
    "50 MB without a line": "data = gzip.compress(head(b'conversion', 5) + b'\\r\\nhello\\r\\n\\r\\n' + b'x' * 50_000_000, 1)",
    "a body that is a gzip bomb": "data = response(b'Content-Encoding: gzip', gzip.compress(bytes(400_000_000)))",
    "a body that is a brotli bomb": "data = response(b'Content-Encoding: br', brotli.compress(bytes(100_000_000), quality=1))",
    "a body that is a zstd bomb": "data = response(b'Content-Encoding: zstd', zstandard.compress(bytes(400_000_000)))",
    "nested HTML": "data = response(b'A: b', b'<div>' * 200_000 + b'hello')",
    "many records in a member": "data = gzip.compress((head(b'conversion', 5) + b'\\r\\nhello\\r\\n\\r\\n') * 300_000, 1)",
}
SCRIPT = """
import gzip, re, sys
import brotli, zstandard
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.errors import HubError

def peak():  # not ru_maxrss, which a child inherits from its parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

def head(kind, length):
    return b"WARC/1.0\\r\\nWARC-Type: %s\\r\\nWARC-Target-URI: http://a.example/\\r\\nContent-Length: %d\\r\\n" % (kind, length)

def response(header, body):
    block = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\n" + header + b"\\r\\n\\r\\n" + body
    return head(b"response", len(block)) + b"\\r\\n" + block + b"\\r\\n\\r\\n"

if sys.argv[1] == "make":
    exec(sys.argv[2])
    open(sys.argv[3], "wb").write(data)
else:
    before = peak()
    try:
        with open(sys.argv[3], "rb") as stream:
            for page in read_pages(stream, "monster", ReadReport()):
                pass
    except HubError:
        pass
    print((peak() - before) // 1024)
"""


@pytest.mark.parametrize("monster", MONSTERS)
def test_memory_is_bounded(monster: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("text/plain", "text/html") if "HTML" in monster else SCRIPT)
    for what in ("make", "read"):
        done = subprocess.run(
            [sys.executable, script, what, MONSTERS[monster], tmp_path / "file"], capture_output=True, text=True, timeout=120, check=True
        )
    assert int(done.stdout) < MAX_MIB, f"{done.stdout} MiB"


MAX_MIB = 160
"""Above what the process has before it reads: four times a body of 16 MiB in pieces, as bytes, decoded and as text."""
