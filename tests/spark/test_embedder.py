"""The embedding model that is carried by its package."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm.embedder import embed_texts
from persona_hub.settings import EmbeddingSettings


@pytest.mark.parametrize(("precision", "worst"), [("bfloat16", 0.9995), ("float32", 0.99999)])
def test_vectors_are_those_of_the_model(shared_data: Path, real_personas, precision: str, worst: float) -> None:
    vectors = embed_texts(real_personas(60), EmbeddingSettings(precision=precision))
    assert vectors.shape == (60, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    expected = np.load(shared_data / "personas" / "personahub_minilm.f16.npy", mmap_mode="r")[:60].astype(np.float32)
    cosines = (vectors * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > worst


def test_precision_changes_the_vector_and_its_label(real_personas) -> None:
    half, single = EmbeddingSettings(), EmbeddingSettings(precision="float32")
    assert half.label != single.label
    assert (embed_texts(real_personas(3), half) != embed_texts(real_personas(3), single)).any(axis=1).all()


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_vector_depends_on_its_text_only(real_personas, precision: str) -> None:
    settings = EmbeddingSettings(precision=precision)
    # Texts of equal and of different lengths, from none to more than the model reads.
    texts = [*real_personas(100), "", "a", "one", "one baker", " ".join(real_personas(20)), " ".join(real_personas(9))]
    whole = embed_texts(texts, settings)
    order = random.Random(1).sample(range(len(texts)), len(texts))
    threads = torch.get_num_threads()
    try:
        for at_once, used in ((1, 1), (7, 2), (64, 1), (200, 2)):
            torch.set_num_threads(used)
            for start in range(0, len(order), at_once):
                rows = order[start : start + at_once]
                assert np.array_equal(embed_texts([texts[row] for row in rows], settings), whole[rows])
    finally:
        torch.set_num_threads(threads)


def test_hostile_texts() -> None:
    texts = ["", " \n\t", "🥖👩‍🍳🎉", "a \ud800 baker", "a \ufffd baker", "خباز يجمع الساعات", "\x00", "...", "  \u202e"]
    vectors = embed_texts(texts, EmbeddingSettings())
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    assert np.array_equal(vectors[3], vectors[4])
    assert embed_texts([], EmbeddingSettings()).shape == (0, 384)


def test_threads_are_left_as_they_were() -> None:
    threads = torch.get_num_threads()
    embed_texts(["a"], EmbeddingSettings())
    assert torch.get_num_threads() == threads


def test_a_text_beyond_what_the_model_reads_is_cut(real_personas) -> None:
    text = " ".join(real_personas(100))
    long, longer, other = embed_texts([text, text + " baker" * 100_000, "baker" + "s" * 10_000_000], EmbeddingSettings())
    assert np.array_equal(long, longer)
    assert np.isfinite(other).all()


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


def test_a_model_without_a_transformer(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)]).save(str(tmp_path))
    with pytest.raises(ModelMisconfigured, match="begins with StaticEmbedding"):
        embed_texts(["a"], EmbeddingSettings(model=str(tmp_path)))
