from __future__ import annotations

import pytest

from persona_hub.errors import RegistryError
from persona_hub.prompts import load_variants
from persona_hub.settings import LlmSettings
from persona_hub.synthesis.data_type import DataType, Sample
from persona_hub.synthesis.registry import DATA_TYPES, build_registry, get, names


def build_type(name: str) -> DataType:
    return DataType(name, "something", "math", Sample)


def test_the_papers_six_types():
    assert names() == ("math", "logic", "instruction", "knowledge", "npc", "tool")
    assert {name: get(name).description for name in names()} == {
        "math": "math problem",
        "logic": "logical reasoning problem",
        "instruction": "instruction data synthesis",
        "knowledge": "knowledge-rich text synthesis",
        "npc": "game npc",
        "tool": "tool development",
    }


def test_unknown_name_lists_those_that_exist():
    with pytest.raises(RegistryError, match=r"'maths'.*math, logic, instruction, knowledge, npc, tool"):
        get("maths")


def test_a_name_taken_twice_is_refused():
    with pytest.raises(RegistryError, match="'poem' is registered twice"):
        build_registry([build_type("poem"), build_type("joke"), build_type("poem")])


def test_a_name_that_cannot_stand_in_an_id_is_refused():
    with pytest.raises(RegistryError, match="lower-case"):
        build_registry([build_type("haiku/5")])


@pytest.mark.parametrize("name", names())
def test_every_type_asks_about_the_persona_in_both_forms(name):
    data_type = get(name)
    assert [prompt.id for prompt in load_variants(data_type.prompt)] == [name, f"{name}.small"]
    for variant in ("small", "standard"):
        request = data_type.build_request("A baker of kelp bread", LlmSettings(prompt_variant=variant), sample=2)
        assert "A baker of kelp bread" in request.messages[-1]["content"]
        assert request.sample == 2 and request.parameters["max_tokens"] >= 60


@pytest.mark.parametrize("name", names())
def test_no_type_accepts_its_own_examples(name):
    data_type: DataType = DATA_TYPES[name]
    examples = [answer for prompt in load_variants(name) for _, answer in prompt.demonstrations]
    verdicts = [data_type.read(example, "stop", "A baker") for example in examples]
    assert [verdict.rule for verdict in verdicts] == ["echo"] * len(examples)
