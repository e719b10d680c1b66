"""Looking numbers up in many others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_among(values: NDArray[Any], ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are there. numpy.isin sorts both together each time: of few among many it takes a hundred times as long.

    Args:
        values: (n,) of the type of `ordered`.
        ordered: (m,), ascending.
    """
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    found: NDArray[np.bool_] = ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    return found
