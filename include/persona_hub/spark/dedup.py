"""The dedup engine: signs the new rows of a corpus, compares them with themselves and with what is stored, keeps who stays.

    new rows ─► signed (step.sign) ─► candidate pairs (step.find) ─► verified (step.verify) ─┐
    stored signatures of other slices ───────┘                     rows of the pairs ────────┴─► survivors.py

It serves whatever has ids, texts and ranks: personas, each hop of an expansion, the samples of a data type. Nothing
that grows with the corpus comes to the driver.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from persona_hub.dedup.lookup import is_among
from persona_hub.dedup.measures import parse_threshold
from persona_hub.dedup.word_method import WordMethod
from persona_hub.settings import Settings
from persona_hub.spark.blocks import Numbers
from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.cell_training import train_cells
from persona_hub.spark.comparison import compare
from persona_hub.spark.embeddings import embed_rows
from persona_hub.spark.outcome import Outcome, Step
from persona_hub.spark.references import ONE_CELL_ROWS, find_word_order, read_centroids
from persona_hub.spark.signatures import Corpus, Signed, number_rows, trim_blocks
from persona_hub.spark.signing import read_signed, read_versions, sign_rows, store_signed
from persona_hub.spark.tables import count_stored, read_table
from persona_hub.spark.word_step import WordStep
from persona_hub.tables.lease import hold_lease
from persona_hub.tables.silver import VECTORS

log = logging.getLogger(__name__)

WORDS, EMBEDDINGS, CONTAINMENT = "dedup_words", "dedup_embeddings", "dedup_containment"


def make_word_step(settings: Settings) -> WordStep:
    """Jaccard of word sets."""
    method = WordMethod.for_words(parse_threshold(settings.dedup.words), settings.dedup.method)
    return WordStep(WORDS, "similar_words", method)


def make_containment_step(settings: Settings) -> WordStep:
    """Texts that embed one another."""
    method = WordMethod.for_containment(parse_threshold(settings.dedup.containment), settings.dedup.ngram)
    return WordStep(CONTAINMENT, "contained", method)


def make_cell_step(corpus: Corpus, settings: Settings) -> CellStep:
    """Cosine of embeddings, in the cells that count now."""
    model = settings.embedding.label
    centroids, version = read_centroids(corpus, model)
    return CellStep(
        EMBEDDINGS, "similar_embeddings", settings.dedup.cosine, model, centroids, version, settings.dedup.probes
    )


def prepare_steps(
    corpus: Corpus, steps: Sequence[Step], new: DataFrame, settings: Settings, run_id: str, slice_keys: Sequence[str]
) -> list[Step]:
    """Makes what the steps need before they can sign: vectors, an order of words, cells where one is too long."""
    prepared: list[Step] = []
    for step in steps:
        if isinstance(step, CellStep):
            embed_rows(corpus, new, settings.embedding, slice_keys)
            prepared.append(_train_when_due(corpus, step, run_id, slice_keys))
        elif step.method.needs_order:
            order, version = find_word_order(corpus, new, run_id)
            prepared.append(replace(step, method=replace(step.method, order=order, order_version=version)))
        else:
            prepared.append(step)
    return prepared


def _train_when_due(corpus: Corpus, step: CellStep, run_id: str, slice_keys: Sequence[str]) -> CellStep:
    if step.version or count_stored(corpus.lake, VECTORS) <= ONE_CELL_ROWS:
        return step
    if corpus.read(VECTORS, {"embedding_model": step.model}).count() <= ONE_CELL_ROWS:
        return step
    # Before the lease, which making the table takes, too.
    hub = read_table(corpus.spark, corpus.lake, corpus.table, slice=tuple(slice_keys)).select("slice")
    with hold_lease(corpus.lake, corpus.table.name):
        centroids, version = read_centroids(corpus, step.model)  # another slice may have been faster
        step = replace(step, centroids=centroids, version=version)
        if version:
            return step
        # Until this run has stored its own cells, others compare with what is published of its slices, too.
        published = {row["slice"] for row in hub.distinct().collect()}
        return train_cells(corpus, step, run_id, without=[key for key in slice_keys if key not in published])


def deduplicate(
    corpus: Corpus, new: DataFrame, stored: DataFrame | None, steps: Sequence[Step], slice_keys: Sequence[str]
) -> Outcome:
    """Finds the new rows that must go, and stores the signatures of those that stay.

    Args:
        new: row_id, slice, text, text_hash, publication (null: not published yet); prepared for the steps.
        stored: the same of published rows in other slices; None where there are none.
        slice_keys: slices of the new rows.
    """
    signed = [_hold(sign_rows(corpus, step, new, slice_keys)) for step in steps]
    others = [_read_stored(corpus, step, stored, ~F.col("slice").isin(list(slice_keys))) for step in steps]
    outcome = compare(corpus, new, stored, steps, signed, others, sample=True)
    for step, own in zip(steps, signed, strict=True):
        store_signed(corpus, step, own.blocks, new, outcome, slice_keys)
    return outcome


def compare_stored(
    corpus: Corpus, new: DataFrame, since: DataFrame, steps: Sequence[Step], slice_keys: Sequence[str]
) -> Outcome:
    """Compares rows that are signed with what others have published since they were deduplicated."""
    slices = [row["slice"] for row in since.select("slice").distinct().collect()]
    others = [_read_stored(corpus, step, since, F.col("slice").isin(slices)) for step in steps]
    rows = number_rows(new).select("row", "text_number").toArrow()
    shared = corpus.spark.sparkContext.broadcast(read_versions(rows))

    def is_new(_: Numbers, versions: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return is_among(versions, shared.value)

    signed = [
        Signed(trim_blocks(step, read_signed(corpus, step, slice_keys), is_new).localCheckpoint()) for step in steps
    ]
    return compare(corpus, new, since, steps, signed, others, sample=False)


def _hold(signed: DataFrame) -> Signed:
    """Vectors are ten times their signatures: read once, where most passes go by the signatures alone."""
    held = signed.localCheckpoint(storageLevel=StorageLevel.DISK_ONLY)
    if "vectors" not in held.columns:
        return Signed(held)
    return Signed(held.drop("vectors").localCheckpoint(storageLevel=StorageLevel.DISK_ONLY), held)


def _read_stored(corpus: Corpus, step: Step, stored: DataFrame | None, where: Column) -> DataFrame | None:
    """Signatures of other slices; those of rows that are gone do no harm, for their rows are not found."""
    return None if stored is None else corpus.read(step.table, step.made_with).where(where)
