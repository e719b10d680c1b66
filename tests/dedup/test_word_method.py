"""How word sets are compared: what a manifest says, what can be compared with what, and that each method signs its keys."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from plain_pairs import THRESHOLDS, expand, find

from persona_hub.core.words import jaccard, word_set
from persona_hub.dedup.measures import parse_threshold
from persona_hub.dedup.prefix import learn_order
from persona_hub.dedup.tokens import count_shared
from persona_hub.dedup.word_method import WordMethod, read_sets
from persona_hub.errors import SettingsError

BASE = ["a", "baker", "who", "grinds", "rye", "at", "night", "and", "sells", "dark", "bread", "to", "sailors", "of", "the", "northern", "harbour", "before", "dawn"]
TEXTS = [
    " ".join(BASE), " ".join(reversed(BASE)), " ".join(BASE[:-1]), " ".join([*BASE, "daily"]), " ".join(BASE[:12]),
    " ".join(BASE[6:]), "", "用电脑写程序的面包师傅", "用电脑写程序的面包师傅。", "one",
]  # fmt: skip


def make(method: str, threshold: Fraction) -> WordMethod:
    made = WordMethod.for_words(threshold, method)
    if not made.needs_order:
        return made
    return replace(made, order=learn_order(read_sets(pa.array(TEXTS), 0)), order_version=3)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
@pytest.mark.parametrize("method", ["exact", "minhash"])
def test_keys_and_measure_belong_together(method: str, threshold: Fraction) -> None:
    made = make(method, threshold)
    sets = [word_set(text) for text in TEXTS]
    found = expand(find(made.sign(pa.array(TEXTS)), made.measure), range(len(TEXTS)))
    similar = {(a, b) for a, b in found if jaccard(sets[a], sets[b]) >= float(threshold)}
    every = {
        (a, b) for b in range(len(TEXTS)) for a in range(b) if jaccard(sets[a], sets[b]) >= float(threshold)
    }  # fmt: skip
    assert similar == every and {(0, 1), (7, 8)} <= every


def test_containment_finds_the_shorter_text_in_the_longer_one() -> None:
    made = WordMethod.for_containment(Fraction("0.8"), 4)
    texts = pa.array([" ".join(BASE), " ".join(BASE[3:9]), " ".join(reversed(BASE)), " ".join(BASE[:3])])
    found = expand(find(made.sign(texts), made.measure), range(4))
    sets = read_sets(texts, 4)
    assert sets.sizes.tolist() == [len(BASE) - 3, 3, len(BASE) - 3, 1]
    left, right = (read_sets(texts.take(pa.array([a, b])), 4) for a, b in ((0, 1), (1, 0)))
    assert count_shared(left, right).tolist() == [3, 3]
    assert (0, 1) in found and not found & {(0, 2), (1, 2)}


def test_what_can_be_compared_has_one_label() -> None:
    every = [make(method, threshold) for method in ("exact", "minhash") for threshold in THRESHOLDS]
    every += [WordMethod.for_containment(Fraction("0.8"), ngram) for ngram in (7, 8)]
    every.append(WordMethod.for_containment(Fraction("0.9"), 8))
    prefix = make("exact", Fraction("0.5"))
    every += [replace(prefix, order_version=4), replace(prefix, order_version=5)]
    assert len({one.label for one in every}) == len(every)
    assert make("exact", Fraction("0.9")).label == "jaccard 0.9 of words by partenum, version 1"
    assert prefix.label == "jaccard 0.5 of words by prefix, version 1, order 3"
    containment = WordMethod.for_containment(Fraction("0.8"), 8)
    assert containment.label == "containment 0.8 of 8-grams by containment, version 1"
    assert make("exact", parse_threshold(0.9)).label == make("exact", Fraction(9, 10)).label


def test_a_manifest_says_the_method_and_its_recall() -> None:
    exact = make("exact", Fraction("0.9")).describe()
    assert exact == {"keys": "jaccard 0.9 of words by partenum, version 1", "threshold": 0.9, "verified": "exactly", "recall": 1.0}
    minhash = make("minhash", Fraction("0.9")).describe()
    assert (minhash["values"], minhash["bands"], minhash["rows"]) == (128, 18, 7)
    assert minhash["expected_recall"] == pytest.approx(1 - (1 - 0.9**7) ** 18) and minhash["expected_recall"] >= 0.9999
    assert json.loads(json.dumps(minhash)) == minhash


def test_prefix_keys_need_an_order_and_no_method_is_guessed() -> None:
    unordered = WordMethod.for_words(Fraction("0.5"), "exact")
    assert unordered.needs_order
    with pytest.raises(ValueError, match="order of words"):
        unordered.sign(pa.array(["one"]))
    with pytest.raises(SettingsError, match="simhash"):
        WordMethod.for_words(Fraction("0.9"), "simhash")
    assert not WordMethod.for_words(Fraction("0.5"), "minhash").needs_order


def test_words_or_runs_of_words() -> None:
    assert read_sets(pa.array(["One two one three"]), 0).sizes.tolist() == [3]
    assert read_sets(pa.array(["One two one three"]), 2).sizes.tolist() == [3]
    assert read_sets(pa.array(["One two one two"]), 2).sizes.tolist() == [2]
    assert np.array_equal(read_sets(pa.array(["Two, one!"]), 0).hashes, read_sets(pa.array(["two one"]), 0).hashes)
