"""Signatures from texts and vectors: made for new rows, looked up for stored ones, added where they lack."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.dedup.lookup import is_among
from persona_hub.spark.outcome import BROADCAST_IDS, Outcome, Step
from persona_hub.spark.signatures import (
    Choose,
    Corpus,
    add_signatures,
    name_versions,
    number_rows,
    read_numbers,
    trim_blocks,
)
from persona_hub.spark.tables import read_version
from persona_hub.spark.word_step import WordStep
from persona_hub.tables.silver import VECTORS

log = logging.getLogger(__name__)

_KEY = ["row", "text_number"]
_BYTES = 64 << 20
_BYTES_OF_RUNS = 4 << 20  # runs of words are nearly all different: each takes 450 bytes of a worker's vocabulary


def sign_rows(corpus: Corpus, step: Step, rows: DataFrame, slice_keys: Sequence[str]) -> DataFrame:
    """Blocks of signatures of rows, lazily, made from their texts or from their stored vectors."""
    _set_batches(corpus.spark, step)
    if isinstance(step, WordStep):
        return step.sign(number_rows(rows))
    vectors = _read_vectors(corpus, step.model, slice_keys)
    if vectors.count() != rows.count():  # each row has one: the others are of texts that were there before
        vectors = vectors.join(rows.select("row_id", "text_hash"), on=["row_id", "text_hash"], how="left_semi")
    return step.sign(number_rows(vectors))


def read_signed(corpus: Corpus, step: Step, slice_keys: Sequence[str]) -> DataFrame:
    """Stored blocks of slices."""
    return corpus.read(step.table, step.made_with).where(F.col("slice").isin(list(slice_keys)))


def ensure_signed(corpus: Corpus, new: DataFrame, steps: Sequence[Step], slice_keys: Sequence[str]) -> None:
    """Makes the signatures that rows still lack: those in cells that were trained anew since their deduplication."""
    for step in steps:
        known = read_numbers(step, read_signed(corpus, step, slice_keys))
        lacking = number_rows(new).join(known, on=_KEY, how="left_anti").localCheckpoint()
        if not lacking.isEmpty():
            log.info("%s: signatures made anew", step.stage)
            made = sign_rows(corpus, step, lacking, slice_keys)
            add_signatures(corpus, step, trim_blocks(step, made, lambda rows, _: np.ones(len(rows), np.bool_)))


def store_signed(
    corpus: Corpus, step: Step, signed: DataFrame, new: DataFrame, outcome: Outcome, slice_keys: Sequence[str]
) -> None:
    """Stores the signatures of new rows that stay and have none yet."""
    if sum(outcome.removed) <= BROADCAST_IDS and not _has_signatures(corpus, step, slice_keys):
        add_signatures(corpus, step, trim_blocks(step, signed, _all_but(outcome)))
    else:
        ensure_signed(corpus, new.join(outcome.gone.select("row_id"), on="row_id", how="left_anti"), [step], slice_keys)


def read_versions(numbered: pa.Table) -> NDArray[np.uint64]:
    """The names of rows with their texts, ascending. Args: numbered: columns row and text_number."""
    return np.sort(name_versions(numbered["row"].to_numpy(), numbered["text_number"].to_numpy()))


def _set_batches(spark: SparkSession, step: Step) -> None:
    """Batches and tasks that signatures are made of: long enough for NumPy, short enough for a worker's memory."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "32000")
    runs = isinstance(step, WordStep) and step.method.ngram
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(_BYTES_OF_RUNS if runs else _BYTES))
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(16 << 20))


def _read_vectors(corpus: Corpus, model: str, slice_keys: Sequence[str]) -> DataFrame:
    return corpus.read(VECTORS, {"embedding_model": model}).where(F.col("slice").isin(list(slice_keys)))


def _all_but(outcome: Outcome) -> Choose:
    gone = np.sort(outcome.removals.select("row").toArrow()["row"].to_numpy())
    return lambda rows, _: ~is_among(rows, gone)


def _has_signatures(corpus: Corpus, step: Step, slice_keys: Sequence[str]) -> bool:
    own = read_signed(corpus, step, slice_keys)  # makes the table where there is none
    return read_version(corpus.lake, step.table) > 0 and not own.isEmpty()
