"""Logical reasoning problems (arXiv 2406.20094, section 4.2): a riddle of reasoning, without its answer."""

from __future__ import annotations

import re

from persona_hub.core.answers import count_words
from persona_hub.core.verdict import Rejection
from persona_hub.synthesis.data_type import DataType, Sample
from persona_hub.synthesis.forms import refuse_chatter, refuse_solution, strip_label

MIN_WORDS = 10

_ASKS = re.compile(
    r"[?？]|\b(?:determine|deduce|find|identify|arrange|rank|work out|figure out|explain|decide|name|prove|assign|order)\b|[谁哪吗呢么]",
    re.IGNORECASE,
)


def check_logic(text: str) -> Sample | Rejection:
    """Refuses `chatter`, `too_short`, `no_question` (nothing is asked) and `solution`."""
    text = strip_label(text, "Logical reasoning problem", "Logic problem", "Problem")
    if refused := refuse_chatter(text):
        return refused
    if count_words(text) < MIN_WORDS:
        return Rejection("too_short", text[:80])
    if not _ASKS.search(text):
        return Rejection("no_question", text[-80:])
    return refuse_solution(text) or Sample(text)


LOGIC = DataType(name="logic", description="logical reasoning problem", prompt="logic", check=check_logic)
