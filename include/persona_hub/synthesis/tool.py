"""Tools (arXiv 2406.20094, section 4.6): the interface of a function that this persona needs.

The paper's own samples describe arguments in three shapes; here they are a JSON Schema or are refused. A model may
write that schema itself, or list the arguments (`[{"name", "type", "description"}]`, the form that endpoints can
enforce: their strict schemas know no free keys), which says the same.
"""

from __future__ import annotations

import re
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from persona_hub.core.answers import count_words, parse_object
from persona_hub.core.verdict import Rejection
from persona_hub.synthesis.data_type import DataType, Sample
from persona_hub.synthesis.forms import read_text, write_payload

MIN_WORDS = 4
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{1,63}")
_MAX_ARGUMENTS = 32


def check_tool(text: str) -> Sample | Rejection:
    """Refuses `unparsable`, `no_…`/`bad_…` of name, description, parameters, returns, and `too_short` descriptions."""
    parts = parse_object(text)
    if isinstance(parts, Rejection):
        return parts
    name = read_text(parts, "name", 2, 64)
    if isinstance(name, Rejection):
        return name
    if not _NAME.fullmatch(name):
        return Rejection("bad_name", name)
    description = read_text(parts, "description", 1, 2_000)
    if isinstance(description, Rejection):
        return description
    if count_words(description) < MIN_WORDS:
        return Rejection("too_short", description)
    parameters = _read_parameters(parts.get("parameters"))
    if isinstance(parameters, Rejection):
        return parameters
    returns = read_text(parts, "returns", 2, 2_000)
    if isinstance(returns, Rejection):
        return returns
    tool = {"name": name, "description": description, "parameters": parameters, "returns": returns}
    payload = write_payload(tool)
    return Sample(payload, payload)


def _read_parameters(value: Any) -> dict[str, Any] | Rejection:
    if value is None:
        return Rejection("no_parameters")
    schema = _list_to_schema(value) if isinstance(value, list) else value
    if isinstance(schema, Rejection):
        return schema
    if not isinstance(schema, dict) or schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        return Rejection("bad_parameters", "no JSON Schema of type object with properties")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return Rejection("bad_parameters", f"{error.json_path}: {error.message}"[:160])
    except RecursionError:
        return Rejection("bad_parameters", "nested too deep")
    properties, required = schema["properties"], schema.get("required", [])
    if not 1 <= len(properties) <= _MAX_ARGUMENTS:
        return Rejection("bad_parameters", f"{len(properties)} arguments")
    if wrong := [key for key in properties if not _NAME.fullmatch(key) and len(key) != 1]:
        return Rejection("bad_parameters", f"no name of an argument: {wrong[0][:60]!r}")
    if unknown := set(required) - set(properties):
        return Rejection("bad_parameters", f"required but not described: {sorted(unknown)[:3]}")
    return schema


def _list_to_schema(arguments: list[Any]) -> dict[str, Any] | Rejection:
    properties: dict[str, Any] = {}
    for argument in arguments:
        if not isinstance(argument, dict) or not isinstance(argument.get("name"), str):
            return Rejection("bad_parameters", "an argument without name")
        rest = {key: value for key, value in argument.items() if key not in ("name", "required")}
        if argument["name"] in properties:
            return Rejection("bad_parameters", f"{argument['name']!r} is given twice")
        if "type" not in rest:
            return Rejection("bad_parameters", f"{argument['name']!r} has no type")
        properties[argument["name"]] = rest
    required = [argument["name"] for argument in arguments if argument.get("required", True) is True]
    return {"type": "object", "properties": properties, "required": required}


TOOL = DataType(name="tool", description="tool development", prompt="tool", check=check_tool)
