"""The stages that ask a model: what each reads, and what it asks about it.

Known here once, for those who ask (spark/), who estimate what it will cost, and who send it as a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from persona_hub.core.keys import persona_id, sample_id
from persona_hub.llm.requests import Request
from persona_hub.personas import text_to_persona
from persona_hub.prompts import Prompt
from persona_hub.settings import LlmSettings, Settings
from persona_hub.synthesis import registry
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.gold import PERSONAS
from persona_hub.tables.model import Table

EXTRACT, SYNTHESIZE = "extract_candidates", "synthesize_samples"


@dataclass(frozen=True)
class CallingStage:
    """One stage, of one data type where it has them.

    Attributes:
        name: of the stage, and of the job that runs it.
        data_type: empty for stages of pages and personas.
        source: table whose rows of a slice are asked about.
        id_column, text_column: what names such a row, and what is asked about.
        load_prompt: settings of the endpoint → prompt.
        build: text of a row and settings of the endpoint → request.
        name_row: id of a row → id of the row that its answer becomes.
        limit: settings → rows of a slice that are asked about, by `order_by_hash`; None for all.
    """

    name: str
    data_type: str
    source: Table
    id_column: str
    text_column: str
    load_prompt: Callable[[LlmSettings], Prompt]
    build: Callable[[str, LlmSettings], Request]
    name_row: Callable[[str], str]
    limit: Callable[[Settings], int | None]

    @property
    def label(self) -> str:
        return f"{self.name}/{self.data_type}" if self.data_type else self.name

    def order_by_hash(self, row_id: str) -> str:
        """Rows with the lowest go first: the same ones whatever their order, others for each data type."""
        return hashlib.md5(f"{self.data_type}|{row_id}".encode(), usedforsecurity=False).hexdigest()


def get_stage(name: str, data_type: str = "") -> CallingStage:
    """The stage of this name.

    Raises:
        RegistryError: there is no such data type.
    """
    if name == EXTRACT:
        return CallingStage(
            *(EXTRACT, "", PAGES, "page_id", "text"),
            load_prompt=text_to_persona.load_persona_prompt,
            build=text_to_persona.build_request,
            name_row=lambda page: persona_id(page, 0),
            limit=lambda _: None,
        )
    if name != SYNTHESIZE:
        raise ValueError(f"{name} is no stage that asks")
    kind = registry.get(data_type)
    return CallingStage(
        *(SYNTHESIZE, kind.name, PERSONAS, "persona_id", "persona"),
        load_prompt=kind.load_prompt,
        build=kind.build_request,
        name_row=lambda persona: sample_id(persona, kind.name, 0),
        limit=lambda settings: settings.synthesis.personas_per_type,
    )
