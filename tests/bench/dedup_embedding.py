"""Personas → vectors on the CPU, beside plain sentence-transformers."""

from __future__ import annotations

import bench_embedding
from bench_tools import Figure


def measure(size: float) -> list[Figure]:
    """Args: size: share of the real texts."""
    return bench_embedding.run(size)
