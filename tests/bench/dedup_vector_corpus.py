"""Vectors for the benches: a Delta table for us, an array for the peer, and the truth by brute force."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
from dedup_corpus import HOME, NEW, ROWS_PER_FILE, STORED, commit_files, find_personas, name_row, write_file
from make_vectors import make_vectors

from persona_hub.core.keys import text_hash
from persona_hub.dedup.cosine import pack_vectors

SEED, QUERIES = 6, 2_000
THRESHOLD, NEAR = 0.9, 0.001
BLOCK = 50_000


class VectorCorpus:
    """`rows` vectors numbered from 0, of which the last `new` stand in the slice NEW; made where it is missing.

    Attributes:
        vectors: file of float16 (rows, 384).
        table: Delta: slice, row_id, text, text_hash, vector as silver.vectors holds it. No text is there twice.
    """

    def __init__(self, rows: int, new: int) -> None:
        self.rows, self.new = rows, new
        self.folder = HOME / f"vectors-{rows}-{new}"
        if not self.folder.exists():
            begun = self.folder.with_suffix(".begun")
            shutil.rmtree(begun, ignore_errors=True)
            self._write(begun)
            begun.rename(self.folder)

    @property
    def vectors(self) -> Path:
        return self.folder / "vectors.npy"

    @property
    def table(self) -> Path:
        return self.folder / "table"

    def _write(self, folder: Path) -> None:
        base = np.load(find_personas() / "personahub_minilm.f16.npy")
        vectors, actions, table = make_vectors(base, self.rows, SEED), [], pa.table({})
        (folder / "table").mkdir(parents=True)
        np.save(folder / self.vectors.name, vectors)
        stored = self.rows - self.new
        for begin, end in ((0, stored), (stored, self.rows)):
            for first in range(begin, end, ROWS_PER_FILE):
                numbers, new = range(first, min(end, first + ROWS_PER_FILE)), first >= stored
                texts = [f"Vector {number}" for number in numbers]
                columns = {
                    "slice": [NEW if new else STORED] * len(texts),
                    "row_id": [name_row(number, new) for number in numbers],
                    "text": texts,
                    "text_hash": [text_hash(text) for text in texts],
                    "vector": pack_vectors(vectors[numbers.start : numbers.stop].astype(np.float32)),
                }
                table = pa.table(columns)
                actions.append(write_file(folder / "table" / f"{first:08d}.parquet", table))
        commit_files(folder / "table", table.schema, actions)

    def find_truth(self, queries: np.ndarray) -> np.ndarray:
        """All pairs (query, other row) of cosine >= 0.9 of these rows with any other: int64 (n, 2), by brute force."""
        vectors = np.load(self.vectors, mmap_mode="r")
        asked, found = _normalize(vectors[queries]), []
        for start in range(0, len(vectors), BLOCK):
            block = _normalize(vectors[start : start + BLOCK])
            # In single precision first; what is near the threshold is judged in double.
            places, others = np.nonzero(asked.astype(np.float32) @ block.astype(np.float32).T >= THRESHOLD - NEAR)
            sure = np.einsum("ij,ij->i", asked[places], block[others]) >= THRESHOLD
            found.append(np.stack([queries[places[sure]], start + others[sure]], 1))
        pairs = np.concatenate(found).astype(np.int64)
        return pairs[pairs[:, 0] != pairs[:, 1]]

    def read_cosines(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        vectors = np.load(self.vectors, mmap_mode="r")
        return np.einsum("ij,ij->i", _normalize(vectors[rows]), _normalize(vectors[others]))


def choose_queries(first: int, end: int) -> np.ndarray:
    """QUERIES of the rows in this range, ascending."""
    drawn = np.random.default_rng(SEED).choice(np.arange(first, end), min(QUERIES, end - first), replace=False)
    return np.sort(drawn)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
