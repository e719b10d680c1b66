"""What a prompt file may say; everything here fails before any call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from persona_hub.errors import PromptError

KEYS = {"fields", "output", "parameters", "system", "demonstrations", "user", "schema"}
REQUIRED = {"fields", "output", "user"}


def _within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


PARAMETERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "temperature": ("a number from 0 to 2", _within(0, 2)),
    "top_p": ("a number from 0 to 1", _within(0, 1)),
    "frequency_penalty": ("a number from -2 to 2", _within(-2, 2)),
    "presence_penalty": ("a number from -2 to 2", _within(-2, 2)),
    "max_tokens": ("a whole number from 1 on", lambda value: type(value) is int and value >= 1),
    "stop": (
        "one to four texts",
        lambda value: isinstance(value, list) and 1 <= len(value) <= 4 and all(isinstance(s, str) and s for s in value),
    ),
}


def check_prompt(file: str, table: dict[str, Any], environment: Environment) -> dict[str, Any] | None:
    """Checks a parsed prompt file and gives back its schema, parsed.

    Raises:
        PromptError: names the file, the field and what is allowed.
    """
    if unknown := set(table) - KEYS:
        raise PromptError(f"{file} has the unknown key {_list(unknown)}", wanted=f"only {_list(KEYS)}")
    if missing := REQUIRED - set(table):
        raise PromptError(f"{file} lacks the key {_list(missing)}", wanted=_list(REQUIRED))
    fields = table["fields"]
    if not (isinstance(fields, list) and fields and all(isinstance(f, str) and f.isidentifier() for f in fields)):
        raise PromptError(f"{file}: `fields` is {fields!r}", wanted="a list of names")
    if table["output"] not in ("text", "json"):
        raise PromptError(f"{file}: `output` is {table['output']!r}", wanted='"text" or "json"')
    for key in ("system", "user"):
        if not isinstance(table.get(key, ""), str):
            raise PromptError(f"{file}: `{key}` is no text", wanted="a text")
    _check_template(file, table["user"], set(fields), environment)
    _check_parameters(file, table.get("parameters", {}))
    _check_demonstrations(file, table.get("demonstrations", []), set(fields))
    return _parse_schema(file, table)


def _check_template(file: str, source: str, fields: set[str], environment: Environment) -> None:
    try:
        used = find_undeclared_variables(environment.parse(source))
        environment.from_string(source)  # an unknown filter shows in compiling only
    except TemplateSyntaxError as error:
        raise PromptError(f"{file}: `user`, line {error.lineno}: {error.message}", wanted="a Jinja template") from None
    if unknown := used - fields:
        raise PromptError(
            f"{file}: `user` uses the unknown field {_list(unknown)}",
            wanted=f"only {_list(fields)}",
            cure="correct the template, or declare the field under `fields`",
        )
    if unused := fields - used:
        raise PromptError(
            f"{file}: `user` does not use the declared field {_list(unused)}",
            wanted="every declared field in the template",
            cure="use it, or take it out of `fields`",
        )


def _check_parameters(file: str, parameters: Any) -> None:
    if not isinstance(parameters, dict):
        raise PromptError(f"{file}: `parameters` is no table", wanted=f"a table with some of {_list(PARAMETERS)}")
    for name, value in parameters.items():
        if name not in PARAMETERS:
            raise PromptError(f"{file} has the unknown parameter `{name}`", wanted=f"one of {_list(PARAMETERS)}")
        wanted, fits = PARAMETERS[name]
        if not fits(value):
            raise PromptError(f"{file}: the parameter `{name}` is {value!r}", wanted=wanted)


def _check_demonstrations(file: str, shown: Any, fields: set[str]) -> None:
    wanted = fields | {"assistant"}
    if not isinstance(shown, list) or not all(isinstance(turn, dict) for turn in shown):
        raise PromptError(f"{file}: `demonstrations` is no list of tables", wanted=f"tables with {_list(wanted)}")
    for number, turn in enumerate(shown, 1):
        if set(turn) != wanted or not all(isinstance(value, str) and value.strip() for value in turn.values()):
            raise PromptError(
                f"{file}: demonstration {number} has the keys {_list(turn)}",
                wanted=f"a text under each of {_list(wanted)}",
            )


def _parse_schema(file: str, table: dict[str, Any]) -> dict[str, Any] | None:
    if "schema" not in table:
        return None
    if table["output"] != "json":
        raise PromptError(f"{file} has a `schema` with output {table['output']!r}", wanted='output = "json"')
    try:
        schema = json.loads(table["schema"])
    except (TypeError, ValueError) as error:
        raise PromptError(f"{file}: `schema` is no JSON: {error}", wanted="a JSON schema as text") from None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise PromptError(f"{file}: `schema` describes no object", wanted='a JSON schema with "type": "object"')
    return schema


def _list(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
