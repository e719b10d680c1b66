"""Text-to-Persona (arXiv 2406.20094, section 2.1): who is likely to read, write, like or dislike this text?"""

from __future__ import annotations

import re

from persona_hub.core.answers import parse_object
from persona_hub.core.persona_rules import refuse_persona
from persona_hub.core.pii import mask_pii
from persona_hub.core.text import normalize_whitespace, weigh_chars
from persona_hub.core.verdict import Rejection
from persona_hub.llm.requests import Request
from persona_hub.prompts import Prompt, load_prompt
from persona_hub.settings import LlmSettings

PROMPT = "text_to_persona"
# Masking makes texts shorter: so much more is masked than is shown, and not the whole of a long page.
SLACK = 2


def load_persona_prompt(settings: LlmSettings) -> Prompt:
    """The prompt in the form that the settings choose for the model."""
    return load_prompt(PROMPT, settings.prompt_variant)


def build_request(page_text: str, settings: LlmSettings, sample: int = 0) -> Request:
    """The question about one page.

    Args:
        page_text: hostile; personal data is masked before the model sees it, then the text is cut and fenced.
        settings: model, form of the prompt and `input_chars`.
        sample: number of the question asked about this page, from 0.
    """
    prompt = load_persona_prompt(settings)
    return Request(
        model=settings.model,
        messages=prompt.render(text=cut_text(mask_pii(cut_text(page_text, SLACK * settings.input_chars)), settings.input_chars)),
        parameters={**prompt.parameters, **settings.parameters},
        schema=dict(prompt.schema) if prompt.schema else None,
        sample=sample,
    )


def cut_text(text: str, limit: int) -> str:
    """At most `limit` characters, those of scripts without spaces counted fourfold (they cost more tokens, too).

    White space is folded; the cut lies between words where the script has any.
    """
    text = normalize_whitespace(text)
    weight = weigh_chars(text)
    if weight <= limit:
        return text
    limit = max(1, limit * len(text) // weight)
    cut = text[: limit + 1]
    place = max(cut.rfind(" "), cut.rfind("\n"))
    # Scripts without spaces have no such place near the end; there any character is one.
    return cut[: place if place > 0.8 * limit else limit].rstrip()


def read_persona(text: str | None, finish_reason: str | None, prompt: Prompt) -> str | Rejection:
    """The persona in an answer, white space folded, else untouched; or the rule that refuses it.

    Args:
        text: the answer; None where the call failed for good.
        finish_reason: the endpoint's word for why the answer ends.
        prompt: the prompt that was asked: its `output` says how to read, its demonstrations must not come back.
    """
    if prompt.output == "json" and (text or "").strip():
        answer = parse_object(text or "")
        if isinstance(answer, Rejection):
            return Rejection("cut", answer.detail) if finish_reason == "length" else answer
        if not isinstance(answer.get("persona"), str):
            return Rejection("unparsable", f"no text under `persona`, keys {sorted(answer)[:8]}")
        # The object is whole, so the limit of tokens cut nothing of it.
        text, finish_reason = answer["persona"], None if finish_reason == "length" else finish_reason
    persona = re.sub(r"[^\S\n]+", " ", text or "").strip()
    examples = [_read_example(answer, prompt) for _, answer in prompt.demonstrations]
    return refuse_persona(persona, finish_reason, examples) or persona


def _read_example(answer: str, prompt: Prompt) -> str:
    if prompt.output == "text":
        return answer
    example = parse_object(answer)
    return answer if isinstance(example, Rejection) else str(example.get("persona", answer))
