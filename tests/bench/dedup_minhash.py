"""dedup_words.py by the paper's method: 128 hash values, bands chosen for the threshold, every pair verified."""

from __future__ import annotations

from bench_tools import Figure
from dedup_words import measure_method


def measure(size: float) -> list[Figure]:
    """Args: size: share of the rows."""
    return measure_method("minhash", size, slower_at_most=1.3, missed_at_most=1e-4)
