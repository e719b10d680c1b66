from __future__ import annotations

import pytest

from persona_hub.synthesis.data_type import Sample
from persona_hub.synthesis.instruction import INSTRUCTION

GOOD = "Plan a week of baking for a market stall with two ovens."


@pytest.mark.parametrize("text", [GOOD, f"User prompt: {GOOD}", f'"{GOOD}"'])
def test_label_and_quotes_are_taken_away(text):
    assert INSTRUCTION.read(text, "stop", "A baker") == Sample(GOOD)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        ("Bake bread", "too_short"),
        ("Sure, I can help you bake bread today.", "chatter"),
        ("You should preheat the oven to 250 degrees.", "no_request"),
        ("A baker who sells bread at the market every Saturday.", "no_request"),
        ("Is a baker who sells bread on Sundays allowed to open at six?", "ok"),
        ("The persona wants to bake better bread.", "about_persona"),
        (" ".join(f"w{number}" for number in range(700)), "too_long"),
        ("A baker who sells sourdough at weekend markets", "echo"),
    ],
)
def test_judges(judge, text, rule):
    assert judge(INSTRUCTION, text) == rule


def test_published_samples_pass(judge_published):
    verdicts = judge_published(INSTRUCTION)
    assert verdicts.total() == 1_000
    assert verdicts["ok"] >= 995
