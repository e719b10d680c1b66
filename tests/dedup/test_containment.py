"""Containment keys against every pair, one by one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_pairs import THRESHOLDS, compare_all, contain, expand, find, read_rows

from persona_hub.dedup.containment import sign_containment
from persona_hub.dedup.measures import Measure
from persona_hub.dedup.tokens import read_ngram_sets

words = st.integers(2, 30).flatmap(
    lambda count: st.frozensets(st.sampled_from([f"w{n}" for n in range(count)]), max_size=40)
)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(words, max_size=25))
def test_no_pair_is_missed_whatever_the_sizes(threshold: Fraction, rows: list[frozenset[str]]) -> None:
    found = expand(
        find(sign_containment(read_rows(rows), threshold), Measure("containment", threshold)), range(len(rows))
    )
    assert compare_all(rows, threshold, contain) <= found


def test_a_text_is_found_inside_a_long_one() -> None:
    rng = np.random.default_rng(4)
    long = [f"w{number}" for number in rng.integers(0, 5_000, 4_000)]
    others = [" ".join(f"v{number}" for number in rng.integers(0, 5_000, 300)) for _ in range(20)]
    texts = [" ".join(long), *others, " ".join(long[1_000:1_060]), " ".join([*long[50:90], "new", *long[91:130]])]
    sets, measure = read_ngram_sets(pa.array(texts), 5), Measure("containment", Fraction("0.8"))
    candidates = find(sign_containment(sets, measure.threshold), measure)
    assert candidates.near.tolist() == [[0, 21], [0, 22]] and not len(candidates.identical)


def test_every_gram_is_a_key_and_the_lowest_probe() -> None:
    rows = [frozenset("abcdefghij"), frozenset(), frozenset("jihgfedcba"), frozenset("ab")]
    signatures = sign_containment(read_rows(rows), Fraction("0.8"))
    assert signatures.probes.tolist() == [3, 0, 3, 1]
    assert np.diff(signatures.starts).tolist() == signatures.sizes.tolist() == [10, 0, 10, 2]
    assert signatures.keys[:10].tolist() == signatures.keys[10:20].tolist()
    assert set(signatures.keys[20:].tolist()) < set(signatures.keys[:10].tolist())
    assert [f"{key:016x}" for key in signatures.keys[20:].tolist()] == [
        "c1d0089db1f86e7a",
        "1dd2207131dc7d85",
    ]  # as they are stored
