"""Gold: what customers read."""

from __future__ import annotations

from functools import cache

from persona_hub.core.keys import SAMPLE_PATTERN
from persona_hub.tables.bronze import SLICE
from persona_hub.tables.model import Column, Table
from persona_hub.tables.silver import ORIGIN, PERSONA, PERSONA_ID, TEXT_HASH

PUBLICATION = Column(
    "publication", "BIGINT", "Number of the publication that brought it; with text_hash its rank, for ever"
)

PERSONAS = Table(
    "gold.personas",
    "The persona hub. A published persona is never removed by a later slice.",
    (
        SLICE,
        PERSONA_ID,
        PERSONA,
        Column("page_id", "STRING", "Page at the root of its lineage"),
        Column("url", "STRING", "Address of that page"),
        Column("parent_id", "STRING", "Persona it was expanded from; null for Text-to-Persona", True),
        Column("relation", "STRING", "Its relation to the parent", True),
        Column("hop", "BIGINT", "0 for Text-to-Persona, 1 to 6 for Persona-to-Persona"),
        PUBLICATION,
        TEXT_HASH,
        *ORIGIN,
    ),
    key=("persona_id",),
    cluster=("slice", "persona_id"),
    checks={
        "id_in_page": "startswith(persona_id, page_id || '/')",
        "id_in_slice": "startswith(page_id, slice || '/')",
        "hop_range": "hop BETWEEN 0 AND 6 AND (hop = 0) = (parent_id IS NULL)",
        "publication_from_one": "publication >= 1",
    },
    change_feed=True,
)


@cache
def task_table(data_type: str) -> Table:
    """The table of one data type; all have the same columns, so a new type needs no new description."""
    return Table(
        f"gold.task_{data_type}",
        f"Published samples of the data type `{data_type}`.",
        (
            SLICE,
            Column("sample_id", "STRING", "persona id / type / number of the question", pattern=f"^{SAMPLE_PATTERN}$"),
            Column("persona_id", "STRING", "Persona that was given to the model"),
            PERSONA,
            Column("text", "STRING", "The sample: the paper's `synthesized text`", length=(1, 100_000)),
            Column("payload", "STRING", "The sample as canonical JSON, for types that have fields", True),
            Column("description", "STRING", "The paper's name of the type"),
            PUBLICATION,
            TEXT_HASH,
            *ORIGIN,
        ),
        key=("sample_id",),
        cluster=("slice", "sample_id"),
        checks={
            "id_in_persona": "startswith(sample_id, persona_id || '/')",
            "text_present": "length(text) > 0",
            "publication_from_one": "publication >= 1",
        },
    )
