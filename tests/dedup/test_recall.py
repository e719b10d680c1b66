"""The highest share that a sample leaves likely: the upper end of Wilson's interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_hub.dedup.recall import SIGMAS, highest_share

samples = st.integers(1, 10**7).flatmap(lambda pairs: st.tuples(st.integers(0, pairs), st.just(pairs)))


@given(samples)
def test_it_is_the_share_from_which_the_sample_lies_two_deviations_below(sample: tuple[int, int]) -> None:
    """Wilson's definition: of shares p >= found / pairs, the one with p - found / pairs = 2 sqrt(p (1 - p) / pairs)."""
    found, pairs = sample
    share = highest_share(found, pairs)
    assert found / pairs - 1e-9 <= share <= 1
    assert (share - found / pairs) ** 2 == pytest.approx(SIGMAS**2 * share * (1 - share) / pairs, rel=1e-6, abs=1e-12)
    if not found:
        assert share > 0


@given(samples, st.integers(2, 50))
def test_more_pairs_leave_less_room(sample: tuple[int, int], times: int) -> None:
    found, pairs = sample
    more = highest_share(found * times, pairs * times)
    assert found / pairs - 1e-9 <= more <= highest_share(found, pairs) + 1e-9
    assert highest_share(max(0, found - 1), pairs) <= highest_share(found, pairs) + 1e-9


def test_one_missed_pair_of_a_small_sample_stops_nothing() -> None:
    assert highest_share(0, 0) == 1.0
    assert highest_share(39, 40) > 0.99
    assert highest_share(980, 1_000) < 0.99 < highest_share(985, 1_000)


@given(st.integers(1, 10**6))
def test_a_sample_of_which_all_was_found_passes_every_gate(pairs: int) -> None:
    assert highest_share(pairs, pairs) == 1.0
