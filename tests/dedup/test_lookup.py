from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from persona_hub.dedup.lookup import is_among

numbers = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1)), max_size=20).map(
    lambda some: np.array(some, np.uint64)
)


@given(numbers, numbers)
def test_what_is_among_is_what_numpy_finds(values, others):
    assert is_among(values, np.sort(others)).tolist() == np.isin(values, others).tolist()
