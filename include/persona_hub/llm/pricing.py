"""What an answer cost."""

from __future__ import annotations

from persona_hub.llm.requests import Completion
from persona_hub.settings import LlmSettings


def compute_cost(completion: Completion, settings: LlmSettings) -> float | None:
    """Money for one answer, in the currency of the prices; None, never 0, where a price or the usage is unknown.

    Cached prompt tokens count in full: an upper bound where the provider gives a discount for them.
    """
    tokens = (completion.prompt_tokens, completion.completion_tokens)
    prices = (settings.price_input, settings.price_output)
    if None in tokens or None in prices:
        return None
    return sum(count * price for count, price in zip(tokens, prices, strict=True)) / 1_000_000  # type: ignore[operator]
