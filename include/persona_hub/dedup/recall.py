"""What a sample says about the share of similar pairs that were found."""

from __future__ import annotations

from math import sqrt

SIGMAS = 2.0


def highest_share(found: int, pairs: int) -> float:
    """The highest share that is likely, given that `found` of `pairs` in a sample were found; 1.0 without a sample.

    Upper end of Wilson's interval at two deviations (Wilson 1927): a gate that compares it stops what is surely below
    its line, and no slice for the one pair that a small sample missed.
    """
    if found >= pairs:
        return 1.0
    share, spread = found / pairs, SIGMAS**2 / pairs
    middle = share + spread / 2
    return min(1.0, (middle + sqrt(spread * (share * (1 - share) + spread / 4))) / (1 + spread))
