from __future__ import annotations

import pytest

from persona_hub.core.answers import (
    count_words,
    cut_thoughts,
    echoes,
    ends_sentence,
    parse_object,
    refuse_answer,
    repeats_itself,
)
from persona_hub.core.verdict import Rejection


@pytest.mark.parametrize(
    ("text", "reason", "rule"),
    [
        (None, "stop", "empty"),
        (" ... \n", "stop", "empty"),
        ("I'm sorry, but no.", "stop", "refusal"),
        ("Fine, but as an AI language model I have no home.", "stop", "refusal"),
        ("抱歉，我不能回答。", "stop", "refusal"),
        ("Anything", "content_filter", "refusal"),
        ("The dog sees the cat and " * 8, "stop", "loop"),
        ("A text that ends in the middle of", "length", "cut"),
        ("Write to me@example.org today.", "stop", "pii"),
    ],
)
def test_refuses(text, reason, rule):
    refused = refuse_answer(text, reason)
    assert refused is not None and refused.rule == rule


@pytest.mark.parametrize(
    ("text", "reason"), [("A whole sentence.", "length"), ("No full stop", "stop"), ("A baker is sorry to close", None)]
)
def test_accepts(text, reason):
    assert refuse_answer(text, reason) is None


@pytest.mark.parametrize(("text", "words"), [("It's a well-known fact", 5), ("一位小学老师", 3.6), ("", 0)])
def test_count_words(text, words):
    assert count_words(text) == pytest.approx(words)


@pytest.mark.parametrize(
    ("text", "ends"), [('He said "no."', True), ("完了。", True), ("and then", False), ("(yes!)", True)]
)
def test_ends_sentence(text, ends):
    assert ends_sentence(text) is ends


def test_a_line_four_times_is_a_loop():
    line = "The gardener waters his plants daily. "
    assert not repeats_itself("One tall tree stands there. " + line)
    assert repeats_itself(line * 4)


def test_a_long_sentence_three_times_is_a_loop():
    line = "She is a skilled gardener and works to bring back the beauty of the garden. "
    start = "Lady of the Desert raises squash from seed in a cold northern climate, far away from all the other towns. "
    assert not repeats_itself(start + line)
    assert repeats_itself(start + line * 3)


def test_echoes():
    source = "A hobby gardener who raises squash from seed in spring"
    assert echoes("a hobby gardener who raises squash from seeds", [source], run=3)
    assert echoes("Yes, no", ["yes no"])
    assert not echoes("A hobby gardener who paints old boats in winter", [source], run=3)


@pytest.mark.parametrize("text", ['{"a": 1}', '```json\n{"a": 1}\n```', 'Here: {"a": 1} as asked', ' {"a": 1}'])
def test_reads_an_object(text):
    assert parse_object(text) == {"a": 1}


@pytest.mark.parametrize(
    "text", ["", "no object", '{"a": 1', '[{"a": 1}]', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a":' * 100_000, "{'a': 1}"]
)
def test_refuses_what_is_no_object(text):
    verdict = parse_object(text)
    assert isinstance(verdict, Rejection) and verdict.rule == "unparsable"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>Who reads this?\n</think>\n\nA baker.", "A baker."),
        ("\n <THINK></THINK> A baker.", "A baker."),
        ("<thinking>one</thinking><reasoning>two</reasoning>A baker.", "A baker."),
        ("Who reads this?\n</think>\nA baker.", "A baker."),
        ("[THINK]Say <think> or </think>?[/THINK]A baker.", "A baker."),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A baker.", "A baker."),
        ("<think>Who reads this? A baker", ""),
        ("<think>one</think><think>two", ""),
        ("<think>only thoughts</think>", ""),
        ("İ <think> stands </think> here.", "İ <think> stands </think> here."),
        ("<think>x</think>It ends with </think> always.", "It ends with </think> always."),
        ("<thoughtful> is no tag ", "<thoughtful> is no tag "),
        ("", ""),
    ],
)
def test_cut_thoughts(text, answer):
    assert cut_thoughts(text) == answer


def test_a_long_row_of_thoughts_takes_one_pass():
    assert cut_thoughts("<think>x</think>" * 100_000 + "<think>" * 100_000 + "</think>A baker.") == "A baker."
