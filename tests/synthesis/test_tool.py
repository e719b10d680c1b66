from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from persona_hub.synthesis.tool import TOOL

ARGUMENTS = [
    {"name": "place", "type": "string", "description": "Name of the market town"},
    {"name": "days", "type": "integer", "description": "Days to look ahead", "required": False},
]
SCHEMA = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "description": "Name of the market town"},
        "days": {"type": "integer", "description": "Days to look ahead"},
    },
    "required": ["place"],
}
GOOD = {
    "name": "get_flour_price",
    "description": "Looks up what a sack of flour costs in a town.",
    "parameters": SCHEMA,
    "returns": "Price per sack",
}


def test_list_of_arguments_says_the_same_as_a_schema():
    listed = TOOL.read(json.dumps(GOOD | {"parameters": ARGUMENTS}), "stop", "A baker")
    assert listed == TOOL.read(json.dumps(GOOD), "stop", "A baker")
    assert json.loads(listed.payload) == GOOD
    Draft202012Validator.check_schema(json.loads(listed.payload)["parameters"])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, "ok"),
        ({"name": None}, "no_name"),
        ({"name": "Flour Price Interface"}, "bad_name"),
        ({"description": "Flour"}, "too_short"),
        ({"description": "A baker who sells sourdough at weekend markets."}, "echo"),
        ({"parameters": None}, "no_parameters"),
        ({"parameters": []}, "bad_parameters"),
        ({"parameters": "place - the town"}, "bad_parameters"),
        ({"parameters": {"place": "the town"}}, "bad_parameters"),
        ({"parameters": {"type": "object", "properties": {}}}, "bad_parameters"),
        ({"parameters": SCHEMA | {"properties": {"place": {"type": "text"}}}}, "bad_parameters"),
        ({"parameters": SCHEMA | {"required": ["town"]}}, "bad_parameters"),
        ({"parameters": SCHEMA | {"properties": {"the place": {"type": "string"}}, "required": []}}, "bad_parameters"),
        ({"parameters": [{"name": "place"}]}, "bad_parameters"),
        ({"parameters": [ARGUMENTS[0], ARGUMENTS[0]]}, "bad_parameters"),
        ({"parameters": [ARGUMENTS[0] | {"type": "text"}]}, "bad_parameters"),
        ({"returns": None}, "no_returns"),
    ],
)
def test_judges(judge, change, rule):
    assert judge(TOOL, json.dumps(GOOD | change)) == rule


def test_half_an_object(judge):
    assert judge(TOOL, json.dumps(GOOD)[:-20], "length") == "cut"
    assert judge(TOOL, json.dumps(GOOD)[:-20], "stop") == "unparsable"


def test_published_samples_name_no_function_and_no_schema(judge_published):
    """The paper's tools have titles for names and no JSON Schema: none of them is such a thing."""
    verdicts = judge_published(TOOL)
    assert verdicts.total() == 1_000 and verdicts["ok"] == 0
