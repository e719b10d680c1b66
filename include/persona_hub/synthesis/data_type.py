"""What a data type is: a prompt, and a check that tells such a thing from anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from persona_hub.core.answers import echoes, parse_object, refuse_answer
from persona_hub.core.verdict import Rejection
from persona_hub.llm.requests import Request
from persona_hub.prompts import Prompt, load_prompt, load_variants
from persona_hub.settings import LlmSettings

_ABOUT_PERSONA = re.compile(r"\b(?:the|this|following|your|my) persona\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sample:
    """One accepted thing.

    Attributes:
        text: what is exported as `synthesized text`.
        payload: canonical JSON of the parts, for types that have parts.
    """

    text: str
    payload: str | None = None


@dataclass(frozen=True)
class DataType:
    """One line of the registry.

    Attributes:
        name: lower-case letters; part of row ids and of the table's name `gold.task_<name>`.
        description: exported as the paper's `description`.
        prompt: name of the prompt file.
        check: the stripped answer → sample, or the rule that refuses it. Pure; never repairs.
    """

    name: str
    description: str
    prompt: str
    check: Callable[[str], Sample | Rejection]

    def load_prompt(self, settings: LlmSettings) -> Prompt:
        """The prompt in the form that the settings choose for the model."""
        return load_prompt(self.prompt, settings.prompt_variant)

    def build_request(self, persona: str, settings: LlmSettings, sample: int = 0) -> Request:
        """The question to one persona; `sample` counts the questions asked about it, from 0."""
        prompt = self.load_prompt(settings)
        return Request(
            model=settings.model,
            messages=prompt.render(persona=persona),
            parameters={**prompt.parameters, **settings.parameters},
            schema=dict(prompt.schema) if prompt.schema else None,
            sample=sample,
        )

    def read(self, text: str | None, finish_reason: str | None, persona: str) -> Sample | Rejection:
        """The sample in an answer, or the first rule that refuses it.

        The rules of every answer first (`core/answers.py`), then `echo` (of the prompt's example or a part of it, of
        its instruction, or of the persona alone), `about_persona` (speaks of "the persona"), then the type's own. Half an object is `cut`, not `unparsable`.
        """
        text = (text or "").strip()
        # Whether an object was cut shows in reading it; a text is cut where it ends in mid-sentence.
        as_object = text.startswith(("{", "```"))
        if refused := refuse_answer(text, None if as_object and finish_reason == "length" else finish_reason):
            return refused
        shown: list[str] = [persona]
        for prompt in load_variants(self.prompt):
            shown += [prompt.system, prompt.user, *(answer for _, answer in prompt.demonstrations)]
        if echoes(text, shown) or _shares_part(text, shown):
            return Rejection("echo", text[:80])
        if found := _ABOUT_PERSONA.search(text):
            return Rejection("about_persona", found.group())
        verdict = self.check(text)
        if isinstance(verdict, Rejection) and verdict.rule == "unparsable" and finish_reason == "length":
            return Rejection("cut", verdict.detail)
        return verdict


def _shares_part(text: str, shown: Sequence[str]) -> bool:
    """Whether an object has the persona, or a text of the prompt's example, as one of its own parts."""
    if not text.startswith("{") or isinstance(parts := parse_object(text), Rejection):
        return False
    examples = [
        example for answer in shown if answer.startswith("{") and isinstance(example := parse_object(answer), dict)
    ]
    known = {_fold(value) for example in examples for value in example.values()} | {_fold(value) for value in shown}
    return any(_fold(value) in known for value in parts.values() if isinstance(value, str) and value.strip())


def _fold(value: object) -> str:
    return str(value).strip().rstrip(".").lower()
