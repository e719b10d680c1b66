"""Sets of words as a dedup step: keys find candidate pairs, the exact measure decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.candidates import WORD_RECORD, find_candidates, keep_keys, make_records
from persona_hub.dedup.tokens import WordSets, count_shared
from persona_hub.dedup.word_keys import Signatures
from persona_hub.dedup.word_method import WordMethod, read_sets
from persona_hub.spark.blocks import count_parts, map_parts, pack_cells, read_uint64, shuffle_records, unpack_cells
from persona_hub.tables.silver import WORD_KEYS

BROADCAST_KEYS = 4_000_000  # of a slice; above, the hub's keys are shuffled with it instead of picked by it: 32 MB
_PAIRS = "a BIGINT, b BIGINT, identical BOOLEAN, sampled BOOLEAN"


@dataclass(frozen=True)
class WordStep:
    """Compares word sets, or runs of words, by their stored keys.

    Attributes:
        stage: name in the funnel.
        rule: reason in silver.removals.
        method: how keys are made and sets are measured.
    """

    stage: str
    rule: str
    method: WordMethod

    table = WORD_KEYS

    @property
    def threshold(self) -> float:
        return float(self.method.measure.threshold)

    @property
    def label(self) -> str:
        return self.method.label

    @property
    def identity(self) -> str:
        """What must be the same in a whole hub."""
        return self.method.identity

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return self.method.describe()

    @property
    def made_with(self) -> dict[str, str]:
        """Column values of the signatures that can be compared with ours."""
        return {"made_with": self.method.label}

    def sign(self, rows: DataFrame) -> DataFrame:
        """Signatures of rows with row_id, slice, text and text_hash: what silver.word_keys has of each."""
        method = self.method

        def sign(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                signed = _sign_empty(method.sign(batch["text"]), batch["text_hash"])
                columns = {name: batch[name] for name in ("slice", "row_id", "text_hash")} | {
                    "words": pa.array(signed.sizes.astype(np.int64)),
                    "set_hash": pa.array(signed.set_hashes.view(np.int64)),
                    "sketch": pa.array(signed.sketches.view(np.int64)),
                    "probing": pa.array(signed.probes.astype(np.int64)),
                    "keys": pack_cells(signed.keys, signed.starts),
                }
                yield pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

        columns = [column for column in WORD_KEYS.columns if column.name not in ("corpus", *self.made_with)]
        schema = ", ".join(f"{column.name} {column.type}" for column in columns)
        return rows.select("slice", "row_id", "text_hash", "text").mapInArrow(sign, schema)

    def find(self, new: DataFrame, stored: DataFrame | None, sample: bool = True) -> tuple[None, DataFrame]:
        """Candidate pairs with at least one new row; none of them verified yet.

        Args:
            new, stored: signatures.
            sample: of no use here: exact keys miss nothing, and what MinHash misses is in the manifest.

        Returns:
            None, since nothing is verified yet; and candidate pairs: a, b (rows as xxhash64 of their ids), identical
            (b's set is that of a, which stands for both in all other pairs), sampled (none is). Kept on the executors.
        """
        keys = _count_keys(new)
        picked = None
        if stored is not None:
            if keys <= BROADCAST_KEYS:
                own, _ = unpack_cells(new.select("keys").toArrow()["keys"].combine_chunks(), np.dtype("<u8"))
                picked = new.sparkSession.sparkContext.broadcast(np.unique(own))
            else:
                keys += _count_keys(stored)
        parts, measure = count_parts(keys * WORD_RECORD.itemsize), self.method.measure

        def make(batch: pa.RecordBatch, is_new: bool) -> NDArray[Any]:
            rows: NDArray[np.int64] = batch["row"].to_numpy()
            records = make_records(_read_signatures(batch), rows, is_new)
            return records if is_new or picked is None else keep_keys(records, picked.value)

        def find(records: NDArray[Any]) -> pa.RecordBatch:
            found = find_candidates(records, measure)
            pairs = np.concatenate([found.identical, found.near])
            same = np.arange(len(pairs)) < len(found.identical)
            columns = [pa.array(pairs[:, 0]), pa.array(pairs[:, 1]), pa.array(same), pa.array(same & False)]
            return pa.RecordBatch.from_arrays(columns, ["a", "b", "identical", "sampled"])

        blocks = shuffle_records(_select_keys(new), lambda batch: make(batch, True), _place, parts)
        if stored is not None:
            blocks = blocks.unionByName(
                shuffle_records(_select_keys(stored), lambda batch: make(batch, False), _place, parts)
            )
        found = map_parts(blocks, parts, WORD_RECORD, find, _PAIRS)
        return None, found.dropDuplicates(["a", "b"]).localCheckpoint()

    def verify(self, pairs: DataFrame) -> DataFrame:
        """The similar ones of pairs.

        Args:
            pairs: columns a, b, identical, sampled, text_a, text_b, text_hash_a, text_hash_b.

        Returns:
            Columns a, b, identical, sampled, similarity.
        """
        method = self.method

        def verify(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                texts = pa.concat_arrays([batch["text_a"], batch["text_b"]])
                left, right = _halve(read_sets(texts, method.ngram))
                shared = count_shared(left, right)
                same_text = np.asarray(pa.compute.equal(batch["text_hash_a"], batch["text_hash_b"]))
                similar = method.measure.is_similar(shared, left.sizes, right.sizes) | same_text
                value = np.where(same_text, 1.0, method.measure.similarity(shared, left.sizes, right.sizes))
                columns = [batch[name] for name in ("a", "b", "identical", "sampled")] + [pa.array(value)]
                names = ["a", "b", "identical", "sampled", "similarity"]
                yield pa.RecordBatch.from_arrays(columns, names).filter(pa.array(similar))

        return pairs.mapInArrow(verify, _PAIRS + ", similarity DOUBLE")


def _halve(sets: WordSets) -> tuple[WordSets, WordSets]:
    middle = len(sets.starts) // 2
    cut = sets.starts[middle]
    return (
        WordSets(sets.ids[:cut], sets.hashes[:cut], sets.starts[: middle + 1]),
        WordSets(sets.ids[cut:], sets.hashes[cut:], sets.starts[middle:] - cut),
    )


def _sign_empty(signed: Signatures, text_hashes: pa.Array) -> Signatures:
    """A text without words is like its copies only: its set and its one key are the text's hash."""
    empty = np.flatnonzero(signed.sizes == 0)
    if not len(empty):
        return signed
    hashes = np.array([int(value[:16], 16) for value in text_hashes.take(pa.array(empty)).to_pylist()], np.uint64)
    set_hashes, probes = signed.set_hashes.copy(), signed.probes.copy()
    set_hashes[empty], probes[empty] = hashes, 1
    keys = np.insert(signed.keys, signed.starts[empty], hashes)
    starts = signed.starts.copy()
    starts[1:] += np.cumsum(signed.sizes == 0)
    return signed._replace(set_hashes=set_hashes, probes=probes, keys=keys, starts=starts)


def _count_keys(signed: DataFrame) -> int:
    row = signed.agg(F.sum(F.length("keys"))).first()
    return ((row and row[0]) or 0) // 8


def _select_keys(signed: DataFrame) -> DataFrame:
    return signed.select(
        F.xxhash64("row_id").alias("row"), F.col("words").cast("INT"), "set_hash", "sketch", F.col("probing").cast("INT"), "keys"
    )


def _read_signatures(batch: pa.RecordBatch) -> Signatures:
    keys, starts = unpack_cells(batch["keys"], np.dtype("<u8"))
    return Signatures(
        sizes=batch["words"].to_numpy(),
        set_hashes=read_uint64(batch["set_hash"]),
        sketches=read_uint64(batch["sketch"]),
        keys=keys,
        starts=starts,
        probes=batch["probing"].to_numpy(),
    )


def _place(records: NDArray[Any]) -> NDArray[np.uint64]:
    return records["key"] >> np.uint64(40)
