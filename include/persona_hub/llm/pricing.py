"""What an answer cost."""

from __future__ import annotations

from persona_hub.llm.requests import Completion
from persona_hub.settings import LlmSettings


def compute_cost(completion: Completion, settings: LlmSettings) -> float | None:
    """Money for one answer, in the currency of the prices; None, never 0, where a price or the usage is unknown.

    Cached prompt tokens count in full: an upper bound where the provider gives a discount for them.
    """
    if completion.prompt_tokens is None or completion.completion_tokens is None:
        return None
    if settings.price_input is None or settings.price_output is None:
        return None
    price = completion.prompt_tokens * settings.price_input + completion.completion_tokens * settings.price_output
    return price / 1_000_000
