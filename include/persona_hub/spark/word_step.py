"""Sets of words as a dedup step: keys find candidate pairs, the exact measure decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from persona_hub.dedup.tokens import WordSets, count_shared
from persona_hub.dedup.word_blocks import keep_words, pack_words, read_words
from persona_hub.dedup.word_keys import Signatures
from persona_hub.dedup.word_method import WordMethod, read_sets
from persona_hub.spark import word_search
from persona_hub.spark.blocks import SIGNED, Numbers, Size, make_blocks, map_batches
from persona_hub.spark.pairs import VERIFIED, Found
from persona_hub.spark.signatures import Signed
from persona_hub.tables.silver import WORD_KEYS


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
        """Blocks of signatures of rows (`signatures.number_rows`): slice, rows, block."""
        return rows.select("slice", "row", "text_number", "text").mapInArrow(map_batches(self.sign_batch), SIGNED)

    def sign_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A block of each slice in a batch."""
        return make_blocks(batch, self._sign)

    def _sign(self, batch: pa.RecordBatch) -> dict[str, bytes]:
        texts = batch["text_number"].to_numpy()
        signed = _sign_empty(self.method.sign(batch["text"]), texts)
        return {"block": pack_words(signed, batch["row"].to_numpy(), texts)}

    @staticmethod
    def read(block: pa.Buffer) -> tuple[Numbers, Numbers]:
        """Numbers of a block's rows and of their texts."""
        rows = read_words(block)
        return rows["row"], rows["text"]

    keep = staticmethod(keep_words)

    def find(self, new: Signed, size: Size, stored: DataFrame | None) -> Found:
        """Candidate pairs with at least one new row; none of them verified yet.

        Args:
            stored: blocks of signatures.
            size: of `new`.

        Returns:
            None, since nothing is verified yet; and the pairs (`word_search`).
        """
        keys, measure = word_search.count_keys(size), self.method.measure
        if keys <= word_search.KEYS_HERE:
            return None, pa.table(word_search.find_here(new.blocks, stored, measure))
        return None, word_search.find_everywhere(new.blocks, stored, measure, keys).localCheckpoint()

    def verify(self, pairs: DataFrame) -> DataFrame:
        """The similar ones of pairs.

        Args:
            pairs: columns a, b, identical, sampled, text_a, text_b, text_hash_a, text_hash_b.

        Returns:
            Columns a, b, identical, sampled, similarity.
        """
        return pairs.mapInArrow(map_batches(self.verify_batch), VERIFIED)

    def verify_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = pa.concat_arrays([batch["text_a"], batch["text_b"]])
        left, right = _halve(read_sets(texts, self.method.ngram))
        shared, measure = count_shared(left, right), self.method.measure
        same_text = np.asarray(pa.compute.equal(batch["text_hash_a"], batch["text_hash_b"]))
        similar = measure.is_similar(shared, left.sizes, right.sizes) | same_text
        value = np.where(same_text, 1.0, measure.similarity(shared, left.sizes, right.sizes))
        names = ["a", "b", "identical", "sampled"]
        columns = [*(batch[name] for name in names), pa.array(value)]
        return pa.RecordBatch.from_arrays(columns, [*names, "similarity"]).filter(pa.array(similar))


def _halve(sets: WordSets) -> tuple[WordSets, WordSets]:
    middle = len(sets.starts) // 2
    cut = sets.starts[middle]
    return (
        WordSets(sets.ids[:cut], sets.hashes[:cut], sets.starts[: middle + 1]),
        WordSets(sets.ids[cut:], sets.hashes[cut:], sets.starts[middle:] - cut),
    )


def _sign_empty(signed: Signatures, texts: Numbers) -> Signatures:
    """A text without words is like its copies only: its set and its one key are the text's number."""
    empty = np.flatnonzero(signed.sizes == 0)
    if not len(empty):
        return signed
    hashes = texts[empty].view(np.uint64)
    set_hashes, probes = signed.set_hashes.copy(), signed.probes.copy()
    set_hashes[empty], probes[empty] = hashes, 1
    keys = np.insert(signed.keys, signed.starts[empty], hashes)
    starts = signed.starts.copy()
    starts[1:] += np.cumsum(signed.sizes == 0)
    return signed._replace(set_hashes=set_hashes, probes=probes, keys=keys, starts=starts)
