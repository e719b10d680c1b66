from __future__ import annotations

import dataclasses

import pytest

from persona_hub.llm.requests import Request

BASE = Request(
    "m", [{"role": "user", "content": "Hi \ud83d"}], {"temperature": 0, "stop": ["."]}, {"type": "object"}, 1
)


def test_key_survives_json():
    again = Request.from_json(BASE.to_json())
    assert again == BASE and again.key == BASE.key


def test_key_ignores_the_order_of_parameters():
    assert dataclasses.replace(BASE, parameters={"stop": ["."], "temperature": 0}).key == BASE.key


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"messages": [{"role": "user", "content": "Ho"}]},
        {"parameters": {"temperature": 1, "stop": ["."]}},
        {"schema": None},
        {"sample": 2},
    ],
)
def test_key_changes_with_all_that_decides_the_answer(change):
    assert dataclasses.replace(BASE, **change).key != BASE.key
