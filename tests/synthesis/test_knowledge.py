from __future__ import annotations

import pytest

from persona_hub.synthesis.knowledge import KNOWLEDGE

GOOD = "Title: Why dough rests\n\n" + " ".join(
    f"In step {number} the baker folds the dough because gluten number {number} relaxes, which lets gas stay inside."
    for number in range(8)
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (GOOD, "ok"),
        ("", "empty"),
        ("Dough rests because gluten relaxes.", "too_short"),
        ("Here is an article on dough: " + GOOD, "chatter"),
        (" ".join(f"- item {number} flour" for number in range(60)), "no_article"),
        (GOOD + " Yours, [Your Name].", "placeholder"),
        (GOOD + " The persona knows this.", "about_persona"),
        ("The dough rests for an hour on the table. " * 15, "loop"),
    ],
)
def test_judges(judge, text, rule):
    assert judge(KNOWLEDGE, text) == rule


def test_refuses_what_was_cut(judge):
    assert judge(KNOWLEDGE, GOOD + " And then the", "length") == "cut"


def test_published_samples_pass(judge_published):
    verdicts = judge_published(KNOWLEDGE)
    assert verdicts.total() == 1_000
    assert verdicts["ok"] >= 980
