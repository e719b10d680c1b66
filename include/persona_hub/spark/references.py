"""What signatures are made against: centroids of cells, the order of words. Learned once from a sample, versioned, kept."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.cells import count_cells, train_centroids
from persona_hub.dedup.cosine import unpack_vectors
from persona_hub.dedup.prefix import learn_order
from persona_hub.dedup.word_method import read_sets
from persona_hub.spark.signatures import Corpus
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.silver import REFERENCES, VECTORS
from persona_hub.tables.small import merge_rows, read_rows

log = logging.getLogger(__name__)

ONE_CELL_ROWS = 20_000  # up to here all codes are compared with all: a second
CELL_ROWS = 1_000  # of the shortest cells, when they are trained
SAMPLE_PER_CELL = 60
SAMPLE_ROWS = 500_000  # at most, on the driver: 800 MB in single precision
SAMPLE_TEXTS = 20_000
CENTROIDS, WORD_ORDER = "centroids", "word_order"


def read_reference(corpus: Corpus, kind: str, made_with: str) -> tuple[bytes | None, int, dict[str, Any]]:
    """The newest of its kind: payload, version and parameters; None and 0 where there is none."""
    same = [("corpus", "=", corpus.name), ("kind", "=", kind), ("made_with", "=", made_with)]
    rows = read_rows(corpus.lake, REFERENCES, filters=[*same])
    if not rows:
        return None, 0, {}
    newest = max(rows, key=lambda row: row["version"])
    return newest["payload"], newest["version"], json.loads(newest["parameters"])


def write_reference(
    corpus: Corpus, kind: str, made_with: str, version: int, payload: bytes, parameters: dict[str, Any], run_id: str
) -> None:
    row = {"corpus": corpus.name, "kind": kind, "made_with": made_with, "version": version, "payload": payload}
    row |= {"parameters": json.dumps(parameters), "run_id": run_id, "made_at": datetime.now(UTC)}
    merge_rows(corpus.lake, REFERENCES, [row])


def read_centroids(corpus: Corpus, model: str) -> tuple[NDArray[np.float32] | None, int]:
    """Centroids (cells, dimensions) and their version; None and 0: one cell for all."""
    payload, version, parameters = read_reference(corpus, CENTROIDS, model)
    if payload is None:
        return None, 0
    return np.frombuffer(payload, "<f4").reshape(-1, parameters["dimensions"]), version


def learn_centroids(corpus: Corpus, model: str) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Trains cells on a sample of the corpus' vectors, chosen by hash. Nothing is stored."""
    clock, stored = time.monotonic(), corpus.read(VECTORS, {"embedding_model": model})
    rows = stored.count()
    cells = count_cells(rows, CELL_ROWS)
    wanted = min(SAMPLE_ROWS, SAMPLE_PER_CELL * cells)
    share = int(min(1.0, 1.2 * wanted / max(1, rows)) * 1_000_000)
    chosen = stored.where(F.pmod(F.xxhash64("text_hash"), F.lit(1_000_000)) < share)
    sample = chosen.select("text_hash", "vector").dropDuplicates(["text_hash"]).toArrow()
    first = np.argsort(sample["text_hash"].to_numpy())[:wanted]
    vectors = unpack_vectors(sample["vector"].combine_chunks().take(pa.array(first)), None)
    centroids = train_centroids(vectors, cells)
    log.info(
        "%d cells trained on %d of %d vectors in %.1f s", len(centroids), len(vectors), rows, time.monotonic() - clock
    )
    return centroids, {"rows": rows, "sample": len(vectors), "cells": len(centroids), "dimensions": centroids.shape[1]}


def find_word_order(corpus: Corpus, texts: DataFrame, run_id: str) -> tuple[NDArray[np.uint64], int]:
    """Words of the corpus by falling frequency, and the version of that order; learned from `texts` by the first that asks."""
    with hold_lease(corpus.lake, f"word_order/{corpus.name}"):
        payload, version, _ = read_reference(corpus, WORD_ORDER, "")
        if payload is None:
            sample = texts.orderBy(F.xxhash64("text_hash")).limit(SAMPLE_TEXTS).select("text").toArrow()["text"]
            payload, version = learn_order(read_sets(sample, 0)).astype("<u8").tobytes(), 1
            write_reference(corpus, WORD_ORDER, "", version, payload, {"texts": len(sample)}, run_id)
    return np.frombuffer(payload, "<u8"), version
