"""Instructions (arXiv 2406.20094, section 4.3): what this persona would ask an assistant for."""

from __future__ import annotations

import re

from persona_hub.core.answers import count_words
from persona_hub.core.verdict import Rejection
from persona_hub.synthesis.data_type import DataType, Sample
from persona_hub.synthesis.forms import refuse_chatter, strip_label

MIN_WORDS = 4
MAX_WORDS = 600

# The words of one who answers, not of one who asks.
_ANSWERS = re.compile(
    r"^(?:dear \w+,? thank|thank you for (?:your|asking|reaching)|you (?:should|can|could|need to) |to (?:do|achieve|solve|answer) th(?:is|at)\b"
    r"|(?:yes|no)[,.] |the persona\b|this persona\b|(?:he|she|they) (?:would|might|may|could|wants?|is|are)\b"
    r"|(?:an?|the) (?:\w+ ){1,8}(?:who|that|is|are|was|has) )",
    re.IGNORECASE,
)


def check_instruction(text: str) -> Sample | Rejection:
    """Refuses `chatter`, `too_short`, `too_long`, and `no_request`: an answer, or a sentence about the persona."""
    text = strip_label(text, "User prompt", "Prompt", "Instruction", "Request", "Question")
    text = re.sub(r'^"([^"]*)"$', r"\1", text)
    if refused := refuse_chatter(text):
        return refused
    words = count_words(text)
    if words < MIN_WORDS:
        return Rejection("too_short", text[:80])
    if words > MAX_WORDS:
        return Rejection("too_long", f"{words:g} words")
    if _ANSWERS.match(text) and "?" not in text:
        return Rejection("no_request", text[:80])
    return Sample(text)


INSTRUCTION = DataType(
    name="instruction", description="instruction data synthesis", prompt="instruction", check=check_instruction
)
