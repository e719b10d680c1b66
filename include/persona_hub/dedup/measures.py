"""When two token sets are similar: exact, in integers, whatever the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from persona_hub.errors import SettingsError

LOWEST = Fraction(1, 2)
_FINEST = 10**9  # so that a denominator times a set's size stays far inside 64 bits


def parse_threshold(value: float) -> Fraction:
    """The threshold as it was written: 0.9 is nine tenths, not the double next to it.

    Raises:
        SettingsError: no number from 0.5 to 1.0, or one of more than nine decimals.
    """
    try:
        threshold = Fraction(str(value))
    except ValueError:  # nan, inf and what is no number
        threshold = Fraction(0)
    if not LOWEST <= threshold <= 1 or threshold.denominator > _FINEST:
        raise SettingsError(
            f"The threshold {value!r}",
            wanted="a number from 0.5 to 1.0 with at most nine decimals",
            cure="correct the dedup threshold",
        )
    return threshold


@dataclass(frozen=True)
class Measure:
    """How alike two sets are, and from where on they count as similar.

    Attributes:
        kind: `jaccard`, shared / (a + b - shared), or `containment`, shared / min(a, b).
        threshold: least similarity of similar sets.
    """

    kind: Literal["jaccard", "containment"]
    threshold: Fraction

    def is_similar(
        self, shared: NDArray[np.int64], sizes_a: NDArray[np.int64], sizes_b: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(n,) verdicts from (n,) counts of shared tokens and sizes. An empty set is similar to nothing."""
        shared = np.asarray(shared, np.int64)
        whole = self._count_whole(shared, sizes_a, sizes_b)
        return (shared > 0) & (shared * self.threshold.denominator >= whole * self.threshold.numerator)

    def similarity(
        self, shared: NDArray[np.int64], sizes_a: NDArray[np.int64], sizes_b: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(n,) similarities from 0 to 1, for people and tables; `is_similar` decides. An empty set has 0."""
        whole = self._count_whole(shared, sizes_a, sizes_b)
        return np.asarray(shared, np.int64) / np.maximum(whole, 1)

    def max_difference(self, size_sum: NDArray[np.int64]) -> NDArray[np.int64]:
        """The largest symmetric difference of two sets of Jaccard >= t whose sizes sum up to `size_sum`.

        With i shared tokens the difference is s - 2i, and i / (s - i) >= t where i >= s * t / (1 + t); so it is at
        most s * (1 - t) / (1 + t) (Arasu, Ganti, Kaushik: Efficient Exact Set-Similarity Joins, VLDB 2006).

        Raises:
            ValueError: containment bounds no difference: a set may lie inside one of any size.
        """
        if self.kind != "jaccard":
            raise ValueError("containment bounds no symmetric difference")
        top, bottom = self.threshold.numerator, self.threshold.denominator
        return np.asarray(size_sum, np.int64) * (bottom - top) // (bottom + top)

    def _count_whole(
        self, shared: NDArray[np.int64], sizes_a: NDArray[np.int64], sizes_b: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        shared, a, b = (np.asarray(counts, np.int64) for counts in (shared, sizes_a, sizes_b))
        return a + b - shared if self.kind == "jaccard" else np.minimum(a, b)
