"""Thresholds and measures, against fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_hub.core.words import jaccard
from persona_hub.dedup.measures import Measure, parse_threshold
from persona_hub.errors import SettingsError

THRESHOLDS = st.integers(5 * 10**8, 10**9).map(lambda billionths: Fraction(billionths, 10**9))
NUMBERS = st.frozensets(st.integers(0, 12).map(str), max_size=12)


def test_a_threshold_is_what_was_written() -> None:
    assert [parse_threshold(value) for value in (0.9, 0.5, 1.0, 1, 0.123 + 0.5, 0.999999999)] == [
        Fraction(9, 10),
        Fraction(1, 2),
        Fraction(1),
        Fraction(1),
        Fraction(623, 1000),
        Fraction(999_999_999, 10**9),
    ]


@pytest.mark.parametrize(
    "value", [0.49, 1.01, 0, -0.9, 90, float("nan"), float("inf"), True, None, "", 0.4999999999999, 0.12345678901 + 0.5]
)
def test_other_thresholds_are_refused_and_named(value: float) -> None:
    with pytest.raises(SettingsError, match=repr(value).replace("(", r"\(")) as refused:
        parse_threshold(value)
    assert "from 0.5 to 1.0" in refused.value.wanted


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1), THRESHOLDS | st.sampled_from([Fraction(1, 2), Fraction(2, 3)])
)
def test_measures_are_exact(pairs: list[tuple[frozenset[str], frozenset[str]]], threshold: Fraction) -> None:
    shared = np.array([len(a & b) for a, b in pairs])
    sizes = np.array([[len(a), len(b)] for a, b in pairs], np.int32)
    for kind, whole in (("jaccard", lambda a, b: len(a | b)), ("containment", lambda a, b: min(len(a), len(b)))):
        exact = [Fraction(len(a & b), whole(a, b)) if a and b else Fraction(0) for a, b in pairs]
        measure = Measure(kind, threshold)
        assert measure.is_similar(shared, sizes[:, 0], sizes[:, 1]).tolist() == [value >= threshold for value in exact]
        assert measure.similarity(shared, sizes[:, 0], sizes[:, 1]).tolist() == [float(value) for value in exact]
    assert Measure("jaccard", threshold).similarity(shared, *sizes.T).tolist() == [jaccard(a, b) for a, b in pairs]


@pytest.mark.parametrize("similarity", [Fraction(9, 10), Fraction(4, 5), Fraction(1, 2), Fraction(999_999_999, 10**9)])
def test_exactly_at_the_threshold_even_with_many_words(similarity: Fraction) -> None:
    shared, whole = similarity.numerator, similarity.denominator
    a, b = np.array([whole, whole]), np.array([shared, shared - 1])
    measure = Measure("jaccard", similarity)
    assert measure.is_similar(b, a, b).tolist() == [True, False]


@given(st.integers(1, 300), st.integers(1, 300), THRESHOLDS)
def test_the_largest_difference_is_the_largest(a: int, b: int, threshold: Fraction) -> None:
    measure = Measure("jaccard", threshold)
    similar = [i for i in range(min(a, b) + 1) if Fraction(i, a + b - i) >= threshold]
    bound = int(measure.max_difference(np.array([a + b]))[0])
    if similar:
        assert a + b - 2 * min(similar) in (bound, bound - 1)  # a difference has the parity of the sum
    # No two sizes of that sum allow more; the most equal ones show it.
    half = (a + b) // 2
    assert max((a + b - 2 * i for i in range(half + 1) if Fraction(i, a + b - i) >= threshold), default=0) <= bound
    assert bound <= (a + b) * (1 - threshold) / (1 + threshold) < bound + 1


def test_containment_bounds_no_difference() -> None:
    with pytest.raises(ValueError, match="containment"):
        Measure("containment", Fraction(9, 10)).max_difference(np.array([10]))
