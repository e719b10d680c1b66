from __future__ import annotations

import pytest

from persona_hub.synthesis.data_type import Sample
from persona_hub.synthesis.math import MATH

GOOD = "A baker sells 3 loaves for every 5 rolls and sold 40 pieces on Saturday. How many loaves did she sell?"


def test_label_is_taken_away_and_nothing_else():
    assert MATH.read(f"**Math problem:** {GOOD}", "stop", "A baker") == Sample(GOOD)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (GOOD, "ok"),
        ("", "empty"),
        ("I cannot create a problem about that.", "refusal"),
        ("Sure! Here is a problem. " + GOOD, "chatter"),
        ("How many loaves is 3 plus 4?", "too_short"),
        ("A baker has 30 loaves and sells 12 of them on the market before the rain comes down.", "no_question"),
        ("A baker who loves bread gets up early and walks to work. Where does she go after work?", "no_quantity"),
        (GOOD + "\n\nSolution: she sold 15 loaves.", "solution"),
        (GOOD + " The answer is 15.", "solution"),
        ("The problem is challenging and has one clear question, or two that belong together. 3 loaves?", "echo"),
        (GOOD + " Use the persona of the baker: the persona is 40.", "about_persona"),
    ],
)
def test_judges(judge, text, rule):
    assert judge(MATH, text) == rule


def test_refuses_its_own_example_and_what_was_cut(judge):
    example = (
        "A lighthouse tower is 24 meters tall. The keeper paints 3 meters of it each day, but every Sunday it rains."
    )
    assert judge(MATH, example) == "echo"
    assert judge(MATH, GOOD + " If she then", "length") == "cut"


def test_published_samples_pass(judge_published):
    verdicts = judge_published(MATH)
    assert verdicts.total() == 1_000
    assert verdicts["ok"] >= 985
