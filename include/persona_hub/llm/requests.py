"""What is asked of a model, and what came back.

A request's key is a hash of what decides the answer: model, messages, parameters, schema, sample number, and which
asking of it this is. Neither address nor secret is part of it, so the same question at another address is the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Request:
    """One question. `sample` tells apart several answers to the same words; `attempt` counts how often it was asked
    anew because the answer was refused."""

    model: str
    messages: list[dict[str, str]]
    parameters: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None
    sample: int = 0
    attempt: int = 0

    @cached_property
    def key(self) -> str:
        """SHA-256 in hex of the canonical JSON of all fields."""
        return hashlib.sha256(self.to_json().encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def seed(self) -> int:
        """Differs with sample and attempt; the same key asks for the same answer."""
        return self.sample + 1_000_003 * self.attempt

    def ask_anew(self) -> Request:
        return replace(self, attempt=self.attempt + 1)

    def to_json(self) -> str:
        # Not asdict, which copies deeply; a first asking keeps the key that it had before there were others.
        values = {name: value for name, value in vars(self).items() if name in _FIELDS and (name != "attempt" or value)}
        return json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Request:
        return cls(**json.loads(text))


_FIELDS = frozenset(field.name for field in fields(Request))


@dataclass(frozen=True)
class Completion:
    """One answer, or a failure that a repeat would not cure (`error_class` set, `text` null).

    Attributes:
        completion_tokens: thoughts of a reasoning model included, as they are billed.
        attempts: sends that it took.
        maybe_paid: sends without an answer that may have been billed all the same.
    """

    key: str
    text: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    latency_s: float
    attempts: int
    reasoning_tokens: int | None = None
    maybe_paid: int = 0
    answered_by: str | None = None
    error_class: str | None = None
    error: str | None = None
