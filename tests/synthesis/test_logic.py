from __future__ import annotations

import pytest

from persona_hub.synthesis.logic import LOGIC

GOOD = (
    "Three bakers, Ann, Bo and Cy, bake on three days. Ann bakes before Bo. Cy bakes last. Who bakes on the second day?"
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (GOOD, "ok"),
        ("Logical reasoning problem: " + GOOD, "ok"),
        ("", "empty"),
        ("Certainly! " + GOOD, "chatter"),
        ("Who bakes first?", "too_short"),
        ("Three bakers bake on three days and all of them like the smell of bread in the morning.", "no_question"),
        (GOOD + "\nAnswer: Bo.", "solution"),
        (
            "Three boats named Heron, Otter and Seal passed the lighthouse last night. The Heron did not come first.",
            "echo",
        ),
    ],
)
def test_judges(judge, text, rule):
    assert judge(LOGIC, text) == rule
