"""faiss over vectors, one process, all cores: `peer_faiss.py OUT VECTORS PAIRS RECALL`, JSON on stdout.

All pairs of cosine >= 0.9 by an IVFFlat index of 4 √n lists, trained on 40 rows a list, with the smallest nprobe whose
recall of PAIRS (query, other row) is RECALL. Timed: reading, training, adding, searching all rows; finding nprobe is
not. OUT gets the pairs.
"""

from __future__ import annotations

import json
import sys
import time

import faiss
import numpy as np

PROBES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
ROWS_PER_LIST, THRESHOLD, BLOCK = 40, 0.9, 20_000


def search(index: faiss.IndexIVFFlat, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Pairs (row, other) of these rows, int64 (n, 2)."""
    limits, _, others = index.range_search(vectors[rows], THRESHOLD)
    pairs = np.stack([np.repeat(rows, np.diff(limits.astype(np.int64))), others], 1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def find_probes(index: faiss.IndexIVFFlat, vectors: np.ndarray, wanted: np.ndarray, recall: float) -> tuple[int, float]:
    queries = np.unique(wanted[:, 0])
    known = wanted @ np.array([len(vectors), 1])
    for index.nprobe in PROBES:
        reached = np.isin(known, search(index, vectors, queries) @ np.array([len(vectors), 1])).mean()
        if reached >= recall:
            break
    return index.nprobe, float(reached)


def main(out: str, path: str, pairs_path: str, recall: str) -> None:
    clock = [time.monotonic()]
    vectors = np.load(path).astype(np.float32)
    faiss.normalize_L2(vectors)
    rows = len(vectors)
    clock.append(time.monotonic())
    lists = round(4 * rows**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    sample = np.sort(np.random.default_rng(1).choice(rows, min(rows, lists * ROWS_PER_LIST), replace=False))
    index.train(vectors[sample])
    clock.append(time.monotonic())
    index.add(vectors)
    clock.append(time.monotonic())
    nprobe, reached = find_probes(index, vectors, np.load(pairs_path), float(recall))
    begun, found = time.monotonic(), []
    for start in range(0, rows, BLOCK):
        pairs = search(index, vectors, np.arange(start, min(rows, start + BLOCK)))
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    searched = time.monotonic() - begun
    read, trained, added = np.diff(clock)
    parts = {"read_s": read, "train_s": trained, "add_s": added, "search_s": searched}
    told = {"nprobe": nprobe, "recall": reached, "lists": lists, "seconds": sum(parts.values()), **parts}
    print(json.dumps(told), flush=True)
    np.save(out, np.concatenate(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
