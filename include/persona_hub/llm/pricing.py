"""What an answer costs: one TOML file of prices per model.

    currency = "USD"

    [models."gpt-x"]        # a dated name, as in gpt-x-2026-01-01, has the price of the longest name that fits
    input = 1.25            # per million prompt tokens
    cached = 0.125          # per million of those that the provider had cached; in full where it is left out
    output = 10.0           # per million completion tokens, thoughts included
    batch_discount = 0.5    # share taken off in the batch API

What is not known is None, never 0; a model that costs nothing says so with zeros.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from persona_hub.errors import SettingsError
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import Settings

MILLION = 1_000_000
# Reserved for an answer whose request names no bound; what is longer is charged as it comes.
UNBOUNDED_ANSWER = 8_192
# Generous: what a chat template puts around a message, and before the first.
TEMPLATE_TOKENS, MESSAGE_TOKENS = 64, 8

_DATED = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4})")
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Price:
    """Money per million tokens; `batch_discount` is the share taken off in batches."""

    input: _Amount
    output: _Amount
    cached: _Amount | None = None
    batch_discount: Annotated[float, Field(ge=0, le=1)] = 0.0
    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Prices:
    """The file."""

    currency: str = "USD"
    models: dict[str, Price] = field(default_factory=dict)
    __pydantic_config__ = ConfigDict(extra="forbid")

    def find(self, model: str) -> Price | None:
        """By the exact name, else by the longest that is this one without its date."""
        undated = [name for name in self.models if model.startswith(name) and _DATED.fullmatch(model[len(name) :])]
        return self.models.get(model) or self.models.get(max(undated, key=len, default=""))


def load_prices(path: str, required: bool) -> Prices:
    """Reads and checks a price file.

    Args:
        path: of the file.
        required: whether it must be there; else a missing one knows no price.

    Raises:
        SettingsError: missing, no TOML, an unknown key, or a number that is no price; names file and key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not required:
            return Prices()
        raise SettingsError(
            f"The price file {path} cannot be read ({error.strerror})",
            wanted="a TOML file of prices per model",
            cure="correct PERSONA_HUB_PRICES, or unset it",
        ) from None
    try:
        return TypeAdapter(Prices).validate_python(tomllib.loads(text))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    except ValueError as error:
        faults = str(error)
    raise SettingsError(
        f"Bad price file {path}: {faults}",
        wanted="currency, and per model input, output, cached, batch_discount",
        cure="correct that file",
    )


def load_settings_prices(settings: Settings) -> Prices:
    """The file that the settings name, else `prices.toml` at home, where there is one."""
    return load_prices(_find_file(settings), required=bool(settings.prices))


def _find_file(settings: Settings) -> str:
    return settings.prices or str(settings.home / "prices.toml")


def find_price(settings: Settings, model: str) -> Price | None:
    """The price of a model, None where none is known.

    Raises:
        SettingsError: bad price file; or a budget is set, and it could not be kept for want of a price.
    """
    price = load_settings_prices(settings).find(model)
    if price is None and settings.budget.is_set:
        raise SettingsError(
            f"A budget is set, but the model {model} has no price",
            wanted=f'[models."{model}"] with input and output in {_find_file(settings)}',
            cure="add its price (zeros if it costs nothing), or unset PERSONA_HUB_BUDGET__*",
        )
    return price


def compute_cost(completion: Completion, price: Price | None, batch: bool = False) -> float | None:
    """Money for one answer, in the currency of the prices; None, never 0, where the price or the usage is unknown.

    A failure that is surely not billed (a 400, say) costs 0 of a known price.
    """
    if price and completion.error_class and completion.prompt_tokens is None and not completion.maybe_paid:
        return 0.0
    if price is None or completion.prompt_tokens is None or completion.completion_tokens is None:
        return None
    cached = min(completion.cached_tokens or 0, completion.prompt_tokens)
    cached_price = price.input if price.cached is None else price.cached
    money = (
        (completion.prompt_tokens - cached) * price.input
        + cached * cached_price
        + completion.completion_tokens * price.output
    )
    return money * (1 - price.batch_discount if batch else 1) / MILLION


def bound_tokens(request: Request) -> tuple[int, int]:
    """Most tokens of the prompt and of the answer.

    A tokenizer that falls back to bytes makes no more tokens of a text than it has bytes in UTF-8. The answer is bounded
    by the request's own `max_tokens` or `max_completion_tokens`, else `UNBOUNDED_ANSWER` is taken.
    """
    prompt = TEMPLATE_TOKENS + sum(MESSAGE_TOKENS + _count_bytes(words["content"]) for words in request.messages)
    if request.schema is not None:
        prompt += _count_bytes(json.dumps(request.schema))
    bounds = [request.parameters.get(name) for name in ("max_tokens", "max_completion_tokens")]
    return prompt, max((int(bound) for bound in bounds if bound), default=UNBOUNDED_ANSWER)


def bound_cost(request: Request, price: Price) -> float:
    """Most money that one answer may cost; several times what it will."""
    prompt, answer = bound_tokens(request)
    return (prompt * max(price.input, price.cached or 0) + answer * price.output) / MILLION


def _count_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
