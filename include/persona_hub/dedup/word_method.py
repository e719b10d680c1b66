"""How sets of words are made, keyed and measured: what a run's manifest says of it, and what must be the same to compare."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persona_hub.dedup.containment import sign_containment
from persona_hub.dedup.measures import Measure
from persona_hub.dedup.minhash import VALUES, choose_bands, expected_recall, sign_minhash
from persona_hub.dedup.partenum import sign_partenum
from persona_hub.dedup.prefix import sign_prefix
from persona_hub.dedup.tokens import WordSets, read_ngram_sets, read_word_sets
from persona_hub.dedup.word_keys import Signatures, choose_method

VERSION = 1
"""Raised when words, hashes or keys change: stored keys are then no longer compared with new ones."""


def read_sets(texts: pa.Array, ngram: int) -> WordSets:
    """Sets of words of n texts, or of runs of `ngram` words; 0 for words."""
    return read_ngram_sets(texts, ngram) if ngram else read_word_sets(texts)


@dataclass(frozen=True)
class WordMethod:
    """A measure of token sets, and how pairs that may reach it are found.

    Attributes:
        measure: jaccard or containment, and the threshold.
        keys: partenum, prefix, minhash or containment.
        ngram: words in a token; 0 for single words as a set.
        order: uint64 (k,), hashes of words by falling frequency, for prefix keys.
        order_version: of `order`; 0 where there is none.
    """

    measure: Measure
    keys: str
    ngram: int = 0
    order: NDArray[np.uint64] | None = None
    order_version: int = 0

    @classmethod
    def for_words(cls, threshold: Fraction, method: str) -> WordMethod:
        """Jaccard of word sets; `method` is exact or minhash. Prefix keys still need an order."""
        return cls(Measure("jaccard", threshold), choose_method(method, threshold))

    @classmethod
    def for_containment(cls, threshold: Fraction, ngram: int) -> WordMethod:
        """How much of the shorter text stands in the longer one, by runs of `ngram` words."""
        return cls(Measure("containment", threshold), "containment", ngram)

    @property
    def needs_order(self) -> bool:
        return self.keys == "prefix"

    @property
    def identity(self) -> str:
        """What must be the same in a whole hub."""
        tokens = f"{self.ngram}-grams" if self.ngram else "words"
        return f"{self.measure.kind} {float(self.measure.threshold):g} of {tokens} by {self.keys}, version {VERSION}"

    @property
    def label(self) -> str:
        """Two signatures can be compared where this is the same."""
        return self.identity + (f", order {self.order_version}" if self.needs_order else "")

    def describe(self) -> dict[str, Any]:
        """For the manifest: method, parameters, and of MinHash the share of pairs at the threshold that it finds."""
        about: dict[str, Any] = {"keys": self.label, "threshold": float(self.measure.threshold), "verified": "exactly"}
        if self.keys != "minhash":
            return about | {"recall": 1.0}
        bands, rows = choose_bands(float(self.measure.threshold))
        recall = expected_recall(float(self.measure.threshold), bands, rows)
        return about | {"values": VALUES, "bands": bands, "rows": rows, "expected_recall": recall}

    def sign(self, texts: pa.Array) -> Signatures:
        """Signatures of n texts."""
        sets, threshold = read_sets(texts, self.ngram), self.measure.threshold
        if self.keys == "partenum":
            return sign_partenum(sets, threshold)
        if self.keys == "minhash":
            return sign_minhash(sets, threshold)
        if self.keys == "containment":
            return sign_containment(sets, threshold)
        if self.order is None:
            raise ValueError("prefix keys need the corpus' order of words")
        return sign_prefix(sets, threshold, self.order)
