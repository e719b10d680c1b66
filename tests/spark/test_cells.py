"""Cells over a real table: trained, switched, measured; and the recall that a run tells is what brute force says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from plain_hub import Hub, Row, choose_by_hand, collect, find_similar, unpack_signed

from persona_hub.dedup.cells import assign_cells
from persona_hub.spark import again, cell_training, references
from persona_hub.spark.cell_step import CellStep
from persona_hub.spark.cell_training import is_due, measure_cells, train_cells
from persona_hub.spark.dedup import EMBEDDINGS, WORDS, make_cell_step
from persona_hub.spark.job import Job
from persona_hub.spark.references import read_centroids
from persona_hub.spark.signatures import number_rows
from persona_hub.tables.silver import REFERENCES, VECTOR_CELLS

MakeJob = Callable[..., Job]
MakeRows = Callable[..., list[Row]]


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of ten rows."""
    monkeypatch.setattr(references, "CELL_ROWS", 10)
    monkeypatch.setattr(cell_training, "CELL_ROWS", 10)
    monkeypatch.setattr(references, "SAMPLE_PER_CELL", 8)


def train(hub: Hub) -> CellStep:
    return train_cells(hub.corpus, make_cell_step(hub.corpus, hub.job.settings), hub.job.run_id)


def number(hub: Hub, rows: list[Row]) -> dict[str, int]:
    """Rows by number, as they are called in signatures."""
    numbered = number_rows(hub.frame(rows)).select("row_id", "row").collect()
    return {row["row_id"]: row["row"] for row in numbered}


def count_recall(new: list[Row], stored: list[Row], centroids: np.ndarray, threshold: float) -> dict[str, int]:
    """Similar pairs of texts, one of them new, and those of which one's home is among the other's cells; one probe."""
    texts = list({row.text: row for row in sorted(new, key=lambda row: row.row_id)}.values())
    rows = [*texts, *stored]
    homes = assign_cells(np.array([row.vector for row in rows], np.float32), centroids, 1)[:, 0]
    similar = find_similar(rows, 1.0, threshold)
    pairs = [
        (a, b) for a, b in combinations(range(len(rows)), 2)
        if 1 in similar.get((a, b), {}) and a < len(texts) and rows[a].text != rows[b].text
    ]  # fmt: skip
    return {"recall_pairs": len(pairs), "recall_found": sum(homes[a] == homes[b] for a, b in pairs)}


@pytest.mark.usefixtures("small_cells")
def test_the_recall_that_is_told_is_the_recall(make_job: MakeJob, make_rows: MakeRows) -> None:
    """One probe and 30 cells miss many pairs. All rows are in the sample; few enough for every pair to be compared."""
    hub = Hub(make_job("S/00001", dedup__probes=1, dedup__cosine=0.7, dedup__words=1.0))
    rows = make_rows(180, 110, seed=6)
    first, second = [[replace(row, slice=f"S/0000{n + 1}") for row in rows[n::2]] for n in (0, 1)]
    hub.store_vectors([*first, *second])
    train(hub)
    centroids, version = read_centroids(hub.corpus, hub.job.settings.embedding.label)
    assert version == 1 and centroids is not None and len(centroids) > 12
    outcome = hub.compare(first, ["S/00001"])
    expected = count_recall(first, [], centroids, 0.7)
    assert outcome.events == [{}, expected]
    assert 0 < expected["recall_found"] < expected["recall_pairs"]
    gone = collect(outcome)
    hub.published = {row.row_id: replace(row, publication=1) for row in first if row.row_id not in gone}
    # A text that is published elsewhere is found by its hash's cell: not in the sample, whose texts differ.
    expected = count_recall(second, list(hub.published.values()), centroids, 0.7)
    found = hub.compare(second, ["S/00002"]).events[1]
    assert found == expected and 0 < expected["recall_found"] < expected["recall_pairs"]


@pytest.mark.usefixtures("small_cells")
def test_training_moves_all_vectors_and_keeps_the_last_version(
    make_job: MakeJob, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any of its writes, it leaves the old cells in force; run again, it does it all."""
    hub = Hub(make_job("S/00001"))
    rows = make_rows(60, 40, seed=7)
    hub.store_vectors(rows)
    assert train(hub).version == 1

    def die(*_: Any) -> None:
        raise ConnectionError("killed")

    for name in ("add_signatures", "write_reference"):
        with monkeypatch.context() as patch:
            patch.setattr(cell_training, name, die)
            with pytest.raises(ConnectionError):
                train(hub)
        step = make_cell_step(hub.corpus, hub.job.settings)
        stored = [row for row in unpack_signed(hub.read(VECTOR_CELLS)) if row["cells_version"] == step.version]
        assert step.version == 1 and len(stored) == len(rows)
    assert [train(hub).version, train(hub).version] == [2, 3]
    assert [row["version"] for row in hub.read(REFERENCES)] == [1, 2, 3]
    # The last version too: a slice that is being compared by it finds it until its publication.
    stored = unpack_signed(hub.read(VECTOR_CELLS))
    assert {row["cells_version"] for row in stored} == {2, 3} and len(stored) == 2 * len(rows)
    step = make_cell_step(hub.corpus, hub.job.settings)
    assert step.centroids is not None
    numbers = number(hub, rows)
    vectors = np.array([row.vector for row in sorted(rows, key=lambda row: numbers[row.row_id])], np.float32)
    homes = assign_cells(vectors, step.centroids, step.probes)
    newest = sorted((row for row in stored if row["cells_version"] == 3), key=lambda row: row["row"])
    assert [row["content"][2] for row in newest] == homes.tolist()
    sizes = np.bincount(homes[:, 0])
    measured = measure_cells(hub.corpus, step)
    assert (measured["rows"], measured["largest"], measured["cells"]) == (len(rows), sizes.max(), np.count_nonzero(sizes))


def test_cells_are_due_when_they_have_become_long_or_uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_training, "CELL_ROWS", 10)
    step = CellStep(EMBEDDINGS, "similar_embeddings", 0.9, "m", np.zeros((5, 3), np.float32), 1, 3)

    def due(rows: int, largest: int, of: CellStep = step) -> bool:
        return is_due({"rows": rows, "cells": 5, "mean": rows / 5, "largest": largest}, of)

    assert not due(50, 12) and not due(419, 200) and due(420, 50)
    assert due(100, 401) and not due(100, 400)
    whole = replace(step, centroids=None, version=0)
    assert not due(20_000, 20_000, whole) and due(20_001, 20_001, whole)


@pytest.mark.usefixtures("small_cells")
def test_a_slice_that_was_compared_by_old_cells_is_signed_anew(make_job: MakeJob, make_rows: MakeRows) -> None:
    """Between deduplication and publication the cells were trained: it is compared in the new ones with who came since."""
    hub = Hub(make_job("S/00002", dedup__probes=64))
    rows = make_rows(60, 50, seed=8)
    ours, theirs = [[replace(row, slice=f"S/0000{2 - n}") for row in rows[n::2]] for n in (0, 1)]
    hub.store_vectors(rows_of := [*ours, *theirs])
    gone = collect(hub.compare(ours, ["S/00002"]))
    kept = [row for row in ours if row.row_id not in gone]
    train(hub)
    lost = collect(hub.compare(theirs, ["S/00001"]))
    published = [replace(row, publication=5) for row in theirs if row.row_id not in lost]
    # As if training had not yet known these vectors: they were written after it had read.
    from persona_hub.spark.tables import delete_rows

    delete_rows(hub.job.spark, hub.job.lake, VECTOR_CELLS, "slice = 'S/00002' AND cells_version = 1")
    steps = [hub.steps[0], make_cell_step(hub.corpus, hub.job.settings)]
    found = again.compare_again(hub.job, hub.corpus, steps, hub.frame(kept), hub.frame(published), 0, "publish")
    removed = {row["row_id"]: (row["survivor_id"], row["rule"], row["similarity"]) for row in found.collect()}
    rules = ("similar_words", "similar_embeddings")
    expected = choose_by_hand([*kept, *published], 0.9, 0.9, stored=[row.row_id for row in published])
    assert removed == {row: (survivor, rules[step], value) for row, (survivor, step, value) in expected.items()}
    assert {rule for _, rule, _ in removed.values()} == set(rules)
    signed = {row["row"] for row in unpack_signed(hub.read(VECTOR_CELLS)) if row["cells_version"] == 1 and row["slice"] == "S/00002"}
    assert signed == {number(hub, rows)[row.row_id] for row in kept} and len(rows_of) == len(rows)
    assert found.select("stage").distinct().count() == 1 and WORDS != "publish"


def test_a_corpus_of_few_vectors_can_be_trained(make_job: MakeJob, make_rows: MakeRows) -> None:
    """The whole of it is the sample."""
    hub = Hub(make_job("S/00001"))
    hub.store_vectors(make_rows(20, 0))
    step = train(hub)
    assert step.version == 1 and step.centroids is not None and len(step.centroids) == 1
