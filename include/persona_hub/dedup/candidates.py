"""From keys to pairs that are worth comparing: rows that share a key, less those that sizes and sketches rule out.

Records of one key stand together; equal sets among them collapse to one representative, so that a million of them
cost a million, and what is left is sorted by size: partners of a set are those after it, up to the largest size that
can be similar. Pairs are made some thousands at a time and refused by sketches, so for Jaccard a key of very many sets
costs time, never memory. Containment has no sketch: there all pairs of a run of words that is in many texts are kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.lookup import is_among
from persona_hub.dedup.measures import Measure
from persona_hub.dedup.pair_places import Pairs, Sets, drop_repeated, pair_sets
from persona_hub.dedup.word_keys import Signatures

WORD_RECORD = np.dtype(
    [("key", "<u8"), ("set_hash", "<u8"), ("sketch", "<u8"), ("row", "<i8"), ("size", "<u4"), ("flags", "u1")]
)
IS_NEW, FIRST_KEY, PROBING = 1, 2, 4  # bits of a record's flags
_KEPT_AT_ONCE = 1 << 20  # pairs kept before repeated ones are dropped

Records = NDArray[np.void]


class Candidates(NamedTuple):
    """Row numbers.

    Attributes:
        identical: int64 (k, 2), [representative, row] of each new row whose set equals that of a lower new one; the
            representative is the lowest of them. Each row once.
        near: int64 (m, 2), [a, b] that may be similar, a < b, each pair once: two representatives of new rows, or one
            and a stored row. Stored rows stand for themselves: one that is gone must not stand for one that is there.
    """

    identical: Pairs
    near: Pairs


def make_records(signatures: Signatures, rows: NDArray[np.int64], is_new: bool) -> Records:
    """One record for each key.

    Args:
        signatures: of n sets.
        rows: (n,) their row numbers.
        is_new: whether they are of this run; stored rows are not compared with one another.

    Returns:
        (m,) of WORD_RECORD, in the order of the keys.
    """
    whole = np.zeros(len(rows), WORD_RECORD)
    for name, values in (
        ("set_hash", signatures.set_hashes), ("sketch", signatures.sketches), ("row", rows), ("size", signatures.sizes)
    ):  # fmt: skip
        whole[name] = values
    counts = np.diff(signatures.starts)
    records = np.repeat(whole, counts)
    records["key"] = signatures.keys
    places = np.arange(len(records)) - np.repeat(signatures.starts[:-1], counts)
    probing = places < np.repeat(signatures.probes, counts)
    records["flags"] = is_new * IS_NEW | (places == 0) * FIRST_KEY | probing * PROBING
    return records


def keep_keys(records: Records, keys: NDArray[np.uint64]) -> Records:
    """The records whose key is among `keys`, which rise: of stored rows, those that new ones can meet."""
    return records[is_among(records["key"], keys)]


def find_candidates(records: Records, measure: Measure) -> Candidates:
    """Pairs that share a key and may be similar; those that are similar are all among them.

    Args:
        records: (m,) of all rows that have these keys: whoever splits records does it by key.
        measure: what will verify the pairs, and what the keys were made for.
    """
    records = _drop_single(records)
    sets, identical = _collapse(records)
    near = np.zeros((0, 2), np.int64)
    waiting: list[Pairs] = []
    count = 0
    for a, b in pair_sets(sets, measure):
        if measure.kind == "jaccard":
            differing = np.bitwise_count(sets.sketches[a] ^ sets.sketches[b])
            close = differing <= measure.max_difference(sets.sizes[a] + sets.sizes[b])
            a, b = a[close], b[close]
        waiting.append(np.stack([sets.rows[a], sets.rows[b]], axis=1))
        count += len(a)
        if count > max(_KEPT_AT_ONCE, len(near)):
            near, waiting, count = drop_repeated(np.concatenate([near, *waiting])), [], 0
    return Candidates(identical, drop_repeated(np.concatenate([near, *waiting])))


def _drop_single(records: Records) -> Records:
    """Those that share their key, sorted by key: most share it with none, and need no copy."""
    keys = np.ascontiguousarray(records["key"])
    order = np.argsort(keys)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    shares = np.zeros(len(keys), np.bool_)
    shares[1:] |= same
    shares[:-1] |= same
    return records[order[shares]]


def _collapse(records: Records) -> tuple[Sets, Pairs]:
    if not len(records):
        nothing = np.zeros(0, np.int64)
        return Sets(nothing, nothing, nothing, nothing.astype(np.uint64), nothing > 0, nothing > 0), nothing.reshape(
            0, 2
        )
    keys = np.cumsum(np.diff(records["key"], prepend=records["key"][:1]) != 0)
    size_order = records["size"].astype(np.int64) << 1 | (records["flags"] & PROBING == 0)
    hashes = np.ascontiguousarray(records["set_hash"])
    order = np.lexsort((records["flags"] & IS_NEW, hashes, keys << 32 | size_order))
    records, keys, size_order, hashes = records[order], keys[order], size_order[order], hashes[order]
    sketches, rows = np.ascontiguousarray(records["sketch"]), np.ascontiguousarray(records["row"])
    is_first = np.ones(len(keys), np.bool_)
    is_first[1:] = False
    for column in (keys, size_order, hashes, sketches):
        is_first[1:] |= column[1:] != column[:-1]
    is_new = records["flags"] & IS_NEW > 0
    is_first |= ~is_new
    is_first[1:] |= is_new[1:] & ~is_new[:-1]
    firsts = np.flatnonzero(is_first)
    lowest = np.minimum.reduceat(rows, firsts)
    of_each = lowest[np.cumsum(is_first) - 1]
    # Equal sets have the same first key, where each of them is met once.
    told = (rows != of_each) & (records["flags"] & FIRST_KEY > 0)
    flags = np.bitwise_or.reduceat(np.ascontiguousarray(records["flags"]), firsts)
    sets = Sets(
        keys[firsts], size_order[firsts] >> 1, lowest, sketches[firsts], flags & IS_NEW > 0, flags & PROBING > 0
    )
    return sets, np.stack([of_each[told], rows[told]], axis=1)
