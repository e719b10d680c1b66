from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from persona_hub.core.persona_rules import refuse_persona

EXAMPLES = ["A hobby gardener who raises squash from seed and wants a better harvest"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        ("I cannot help with that request.", "refusal"),
        ("A baker who sells bread at www.example.org on Sundays", "url"),
        ("A baker, mail me@example.org, who sells bread", "pii"),
        ("The text is about a baker who sells bread", "about_text"),
        ("Sure, here is a persona of a baker", "about_text"),
        ("You will love this bread and its crust", "about_text"),
        ("I love this bread and its dark crust", "first_person"),
        ("A wonderful experience with a long walk", "no_person"),
        ("A baker who sells bread\nA nurse who buys it", "several_lines"),
        ("A baker <b>who</b> sells bread", "markup"),
        ("A baker", "too_short"),
        ("一个人", "too_short"),
        ("A baker who knows " + " ".join(f"word{number}" for number in range(90)), "too_long"),
        ("A hobby gardener who raises squash from seed and wants a harvest", "echo"),
    ],
)
def test_refuses(text, rule):
    refused = refuse_persona(text, "stop", EXAMPLES)
    assert refused is not None and refused.rule == rule


def test_refuses_what_was_cut():
    refused = refuse_persona("A baker who sells bread at the", "length", EXAMPLES)
    assert refused is not None and refused.rule == "cut"


@pytest.mark.parametrize(
    "text",
    [
        "A baker who sells sourdough at weekend markets",
        "I'm a marine biologist with a fascination for extremophiles.",
        "IT manager unfamiliar with cloud computing",
        "一位热衷收集运动员历史成就信息的体育记者",
        "Un professeur de musique qui aime le jazz",
    ],
)
def test_accepts(text):
    assert refuse_persona(text, "stop", EXAMPLES) is None


def test_published_personas_pass(shared_data):
    """The rules refuse few of the personas that were published with the paper, and for these reasons."""
    with gzip.open(shared_data / "personas" / "personahub.jsonl.gz", "rt") as lines:
        personas = [json.loads(line)["persona"] for line, _ in zip(lines, range(20_000), strict=False)]
    refused = Counter(found.rule for text in personas if (found := refuse_persona(text.strip(), "stop", EXAMPLES)))
    assert len(personas) == 20_000
    assert refused.total() < 0.005 * len(personas)
    assert set(refused) <= {"no_person", "too_short", "first_person", "about_text"}
