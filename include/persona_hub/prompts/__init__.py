"""Prompts as files: `<name>.toml`, or `<name>.<variant>.toml` for models that need another form.

    fields         names that the template takes
    output         "text" or "json"
    system         text of the system message, literal; may be left out
    user           Jinja template of the user message
    parameters     temperature, top_p, max_tokens, frequency_penalty, presence_penalty, stop
    schema         JSON schema of the answer, as JSON text; only with output = "json"
    demonstrations tables with every field and `assistant`: earlier turns, rendered by the same template

All of it is checked when the file is loaded, before any call. Values are data: they are never compiled as
templates, and `defuse` takes from them what a chat template would read as a turn's end.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from persona_hub.errors import PromptError
from persona_hub.prompts.check import check_prompt
from persona_hub.prompts.fence import defuse, fence

ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)
ENVIRONMENT.filters["fence"] = fence


@dataclass(frozen=True)
class Prompt:
    """One prompt file, checked.

    Attributes:
        id: the file's stem, such as `math.small`.
        hash: 128-bit BLAKE2b of the file's bytes, in hex; goes into each row that was made with it.
        demonstrations: pairs of values by field and the answer that was given to them.
        schema: JSON schema of the answer, or none.
    """

    id: str
    hash: str
    fields: tuple[str, ...]
    output: str
    user: str
    system: str
    parameters: Mapping[str, Any]
    demonstrations: tuple[tuple[Mapping[str, str], str], ...]
    schema: Mapping[str, Any] | None

    def render(self, **values: str) -> list[dict[str, str]]:
        """Chat messages: system, demonstrations as turns, then the user's message.

        Raises:
            PromptError: a field is missing or not declared.
        """
        if set(values) != set(self.fields):
            raise PromptError(
                f"Prompt {self.id} was given the fields {sorted(values)}",
                wanted=f"exactly {sorted(self.fields)}",
                cure="pass what its file declares under `fields`",
            )
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for shown, answer in self.demonstrations:
            messages.append({"role": "user", "content": self._render_user(shown)})
            messages.append({"role": "assistant", "content": answer})
        return [*messages, {"role": "user", "content": self._render_user(values)}]

    def _render_user(self, values: Mapping[str, str]) -> str:
        try:
            return _compile(self.user).render({name: defuse(value) for name, value in values.items()})
        except TemplateError as error:
            raise PromptError(f"Prompt {self.id} cannot be rendered: {error}", cure="correct its `user`") from None


def load_prompt(name: str, variant: str = "") -> Prompt:
    """The prompt `<name>.<variant>.toml`, or `<name>.toml` where no such variant exists.

    Raises:
        PromptError: neither file exists, or what it says is refused; names file, field and what is allowed.
    """
    stems = list_prompts()
    for stem in (f"{name}.{variant}", name):
        if stem in stems:
            return _load(stem)
    raise PromptError(
        f"No prompt {name!r} with the variant {variant!r}",
        wanted="one of " + ", ".join(stems),
        cure="correct the name, or the setting llm.prompt_variant",
    )


def load_variants(name: str) -> tuple[Prompt, ...]:
    """Every file of a prompt: `<name>.toml` and all `<name>.*.toml`."""
    return tuple(_load(stem) for stem in list_prompts() if stem.split(".")[0] == name)


@cache
def list_prompts() -> tuple[str, ...]:
    """Stems of all prompt files, sorted; read through importlib, since executors import us from a zip."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


@cache
def _load(stem: str) -> Prompt:
    return parse_prompt(stem, files(__name__).joinpath(f"{stem}.toml").read_bytes())


def parse_prompt(stem: str, content: bytes) -> Prompt:
    """Reads and checks a prompt file's bytes.

    Raises:
        PromptError: see `load_prompt`.
    """
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PromptError(f"{stem}.toml is no TOML: {error}", cure="correct the file") from None
    schema = check_prompt(f"{stem}.toml", table, ENVIRONMENT)
    fields = tuple(table["fields"])
    prompt = Prompt(
        id=stem,
        hash=hashlib.blake2b(content, digest_size=16).hexdigest(),
        fields=fields,
        output=table["output"],
        user=table["user"].strip(),
        system=table.get("system", "").strip(),
        parameters=table.get("parameters", {}),
        demonstrations=tuple(
            ({name: shown[name].strip() for name in fields}, shown["assistant"].strip())
            for shown in table.get("demonstrations", [])
        ),
        schema=schema,
    )
    # A filter or an attribute that no value has shows only in rendering; a probe finds it before any call.
    prompt.render(**dict.fromkeys(fields, "probe"))
    return prompt


@cache
def _compile(source: str) -> Template:
    return ENVIRONMENT.from_string(source)
