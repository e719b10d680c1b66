"""All data types. A new one: its module, its prompt, its test, and one line here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from persona_hub.errors import RegistryError
from persona_hub.synthesis.data_type import DataType
from persona_hub.synthesis.instruction import INSTRUCTION
from persona_hub.synthesis.knowledge import KNOWLEDGE
from persona_hub.synthesis.logic import LOGIC
from persona_hub.synthesis.math import MATH
from persona_hub.synthesis.npc import NPC
from persona_hub.synthesis.tool import TOOL


def build_registry(types: Iterable[DataType]) -> Mapping[str, DataType]:
    """Data types by name, in the order given.

    Raises:
        RegistryError: a name is taken twice, or cannot be part of a row's id.
    """
    registry: dict[str, DataType] = {}
    for data_type in types:
        if not re.fullmatch("[a-z]+", data_type.name):
            raise RegistryError(f"The data type {data_type.name!r}", wanted="a name of lower-case letters a to z")
        if data_type.name in registry:
            raise RegistryError(
                f"The data type {data_type.name!r} is registered twice",
                wanted="each name once",
                cure="rename one of the two in synthesis/registry.py",
            )
        registry[data_type.name] = data_type
    return MappingProxyType(registry)


DATA_TYPES = build_registry([MATH, LOGIC, INSTRUCTION, KNOWLEDGE, NPC, TOOL])


def get(name: str) -> DataType:
    """The data type of that name.

    Raises:
        RegistryError: there is none; names those that exist.
    """
    if name not in DATA_TYPES:
        raise RegistryError(f"No data type {name!r}", wanted="one of " + ", ".join(DATA_TYPES))
    return DATA_TYPES[name]


def names() -> tuple[str, ...]:
    """Names of all data types, in the registry's order."""
    return tuple(DATA_TYPES)
