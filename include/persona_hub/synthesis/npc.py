"""Game characters (arXiv 2406.20094, section 4.5): a persona carried into the world that the prompt describes."""

from __future__ import annotations

from persona_hub.core.answers import count_words, parse_object
from persona_hub.core.verdict import Rejection
from persona_hub.synthesis.data_type import DataType, Sample
from persona_hub.synthesis.forms import read_text, write_payload

MIN_WORDS = 10


def check_npc(text: str) -> Sample | Rejection:
    """Refuses `unparsable`, `no_name`, `bad_name`, `no_description`, `bad_description`, `too_short` descriptions."""
    parts = parse_object(text)
    if isinstance(parts, Rejection):
        return parts
    name = read_text(parts, "name", 2, 60)
    if isinstance(name, Rejection):
        return name
    if not any(character.isalpha() for character in name):
        return Rejection("bad_name", name)
    description = read_text(parts, "description", 1, 4_000)
    if isinstance(description, Rejection):
        return description
    if count_words(description) < MIN_WORDS:
        return Rejection("too_short", description)
    payload = write_payload({"name": name, "description": description})
    return Sample(f"Name: {name}\nDescription: {description}", payload)


NPC = DataType(name="npc", description="game npc", prompt="npc", check=check_npc)
