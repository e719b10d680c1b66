"""Signatures of word sets as they are stored and sent: some ten thousand rows as one run of bytes.

A table of a row each costs more to write and to read than all that is computed of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.candidates import Records, keep_keys, make_records
from persona_hub.dedup.lookup import is_among
from persona_hub.dedup.word_keys import Signatures

ROW = np.dtype(
    [
        ("row", "<i8"), ("text", "<i8"), ("set_hash", "<u8"), ("sketch", "<u8"), ("size", "<i4"), ("probes", "<i4"),
        ("keys", "<i4"),
    ]
)  # fmt: skip
_HEADER = 8


def pack_words(signatures: Signatures, rows: NDArray[np.int64], texts: NDArray[np.int64]) -> bytes:
    """Signatures of n rows: their number (8 bytes), n of ROW, then the keys of all of them.

    Args:
        rows, texts: (n,) numbers of the rows and of their texts.
    """
    head = np.empty(len(rows), ROW)
    for name, values in (
        ("row", rows), ("text", texts), ("set_hash", signatures.set_hashes), ("sketch", signatures.sketches),
        ("size", signatures.sizes), ("probes", signatures.probes), ("keys", np.diff(signatures.starts)),
    ):  # fmt: skip
        head[name] = values
    return _join(head, signatures.keys)


def read_words(block: memoryview | bytes) -> NDArray[np.void]:
    """(n,) of ROW."""
    count = int(np.frombuffer(block, "<i8", 1)[0])
    return np.frombuffer(block, ROW, count, _HEADER)


def read_keys(block: memoryview | bytes) -> NDArray[np.uint64]:
    """(m,) keys of all rows, one row's after the other's."""
    return np.frombuffer(block, "<u8", offset=_HEADER + read_words(block).nbytes)


def keep_words(block: memoryview | bytes, kept: NDArray[np.bool_]) -> bytes:
    """The block of those rows only. Args: kept: (n,)."""
    head = read_words(block)
    return _join(head[kept], read_keys(block)[np.repeat(kept, head["keys"])])


def pick_words(block: memoryview | bytes, keys: NDArray[np.uint64]) -> Records:
    """The records of stored rows whose key is among `keys`, which rise: those that new rows can meet."""
    head = read_words(block)
    owners = np.repeat(np.arange(len(head)), head["keys"])
    kept = np.zeros(len(head), np.bool_)
    kept[owners[is_among(read_keys(block), keys)]] = True
    return keep_keys(to_word_records(keep_words(block, kept), is_new=False), keys)


def to_word_records(block: memoryview | bytes, is_new: bool) -> Records:
    """One record for each key of each row (`candidates.make_records`)."""
    head = read_words(block)
    starts = np.zeros(len(head) + 1, np.int64)
    np.cumsum(head["keys"], out=starts[1:])
    columns = (head[name] for name in ("size", "set_hash", "sketch"))
    sizes, set_hashes, sketches = (np.ascontiguousarray(column) for column in columns)
    signatures = Signatures(sizes, set_hashes, sketches, read_keys(block), starts, np.ascontiguousarray(head["probes"]))
    return make_records(signatures, np.ascontiguousarray(head["row"]), is_new)


def _join(head: NDArray[np.void], keys: NDArray[np.uint64]) -> bytes:
    return np.int64(len(head)).tobytes() + head.tobytes() + keys.tobytes()
