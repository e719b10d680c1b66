"""Knowledge-rich texts (arXiv 2406.20094, section 4.4): an article that this persona would write."""

from __future__ import annotations

import re

from persona_hub.core.answers import count_words
from persona_hub.core.verdict import Rejection
from persona_hub.synthesis.data_type import DataType, Sample
from persona_hub.synthesis.forms import refuse_chatter

MIN_WORDS = 80
MIN_SENTENCES = 4

_PLACEHOLDER = re.compile(r"\[(?:your|insert|name|date|topic|author|company)\b[^\]]{0,40}\]", re.IGNORECASE)


def check_knowledge(text: str) -> Sample | Rejection:
    """Refuses `chatter`, `too_short`, `no_article` (under four sentences: a list or an outline), `placeholder`."""
    if refused := refuse_chatter(text):
        return refused
    words = count_words(text)
    if words < MIN_WORDS:
        return Rejection("too_short", f"{words:g} words")
    sentences = len(re.findall(r"[.!?](?=\s|$|[\"”’)*])|[。！？]", re.sub(r"(?m)^\W*\d+\.", "", text)))
    if sentences < MIN_SENTENCES:
        return Rejection("no_article", f"{sentences} sentences")
    if found := _PLACEHOLDER.search(text):
        return Rejection("placeholder", found.group())
    return Sample(text)


KNOWLEDGE = DataType(
    name="knowledge", description="knowledge-rich text synthesis", prompt="knowledge", check=check_knowledge
)
