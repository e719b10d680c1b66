from __future__ import annotations

import json

import pytest

from persona_hub.synthesis.npc import NPC

GOOD = {
    "name": "Mara Crumb",
    "description": "Mara bakes kelp bread on a moored barge and trades loaves for lamp oil each morning.",
}


def test_payload_is_canonical():
    sample = NPC.read("```json\n" + json.dumps(GOOD, indent=2) + "\n```", "stop", "A baker")
    assert sample.text == f"Name: {GOOD['name']}\nDescription: {GOOD['description']}"
    assert sample.payload == json.dumps(dict(sorted(GOOD.items())), separators=(",", ":"))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, "ok"),
        ({"name": None}, "no_name"),
        ({"name": "--- 12"}, "bad_name"),
        ({"name": "M" * 70}, "bad_name"),
        ({"description": ""}, "no_description"),
        ({"description": "A baker."}, "too_short"),
        ({"name": "Orrin Saltbrush"}, "echo"),
        ({"description": "Write to mara@example.org if you want bread from the barge in the harbor today."}, "pii"),
    ],
)
def test_judges(judge, change, rule):
    assert judge(NPC, json.dumps(GOOD | change)) == rule


def test_half_an_object(judge):
    assert judge(NPC, '{"name": "Mara', "length") == "cut"
    assert judge(NPC, '{"name": "Mara', "stop") == "unparsable"
    assert judge(NPC, "Mara bakes bread on a moored barge", "stop") == "unparsable"
    assert judge(NPC, "", "stop") == "empty"
