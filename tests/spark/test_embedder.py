"""The embedding model that is carried by its package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm.embedder import embed_texts
from persona_hub.settings import EmbeddingSettings


def test_vectors_are_those_of_the_model(shared_data: Path, real_personas) -> None:
    texts = real_personas(20)
    vectors = embed_texts(texts, EmbeddingSettings(batch_size=8))
    assert vectors.shape == (20, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    expected = np.load(shared_data / "personas" / "personahub_minilm.f16.npy", mmap_mode="r")[:20].astype(np.float32)
    cosines = (vectors * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.995
    # In another order and company a text has the same vector.
    again = embed_texts(texts[::-1], EmbeddingSettings(batch_size=3))[::-1]
    assert np.abs(again - vectors).max() < 1e-5


@pytest.mark.parametrize("name", ["no-such-model", "json", "/nowhere/model", "a.b.c"])
def test_an_unknown_model_says_what_to_do(name: str) -> None:
    with pytest.raises(ModelMisconfigured) as raised:
        embed_texts(["a"], EmbeddingSettings(model=name))
    assert str(raised.value).startswith(f"The embedding model {name!r} cannot be loaded: ")
    assert str(raised.value).endswith("To do: set PERSONA_HUB_EMBEDDING__MODEL.")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(ModelMisconfigured):
        embed_texts(["a"], EmbeddingSettings(model=str(tmp_path)))
