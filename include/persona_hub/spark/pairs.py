"""Pairs of rows, as the steps find them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

CANDIDATES = "a BIGINT, b BIGINT, identical BOOLEAN, sampled BOOLEAN"
SIMILAR = "a BIGINT, b BIGINT, identical BOOLEAN, similarity DOUBLE"
VERIFIED = CANDIDATES + ", similarity DOUBLE"

Pairs: TypeAlias = pa.Table | DataFrame | None
"""On the driver where they are few, else kept on the executors; None where there can be none."""

Found: TypeAlias = tuple[Pairs, Pairs]
"""What a step finds: similar pairs (a, b, identical, similarity), and candidates (a, b, identical, sampled)."""


def to_candidates(pairs: NDArray[np.int64], *, identical: int = 0, sampled: bool = False) -> pa.RecordBatch:
    """Pairs (n, 2) as candidates: a, b, identical (the first so many), sampled."""
    columns = [pa.array(pairs[:, 0]), pa.array(pairs[:, 1]), pa.array(np.arange(len(pairs)) < identical)]
    columns.append(pa.array(np.full(len(pairs), sampled)))
    return pa.RecordBatch.from_arrays(columns, ["a", "b", "identical", "sampled"])
