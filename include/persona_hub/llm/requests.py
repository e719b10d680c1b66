"""What is asked of a model, and what came back.

A request's key is a hash of what decides the answer: model, messages, parameters, schema, sample number.
Neither address nor secret is part of it, so the same question at another address is the same question.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Request:
    """One question. `sample` tells apart several answers to the same words."""

    model: str
    messages: list[dict[str, str]]
    parameters: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None
    sample: int = 0

    @cached_property
    def key(self) -> str:
        """SHA-256 in hex of the canonical JSON of all fields."""
        return hashlib.sha256(self.to_json().encode("utf-8", "surrogatepass")).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Request:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Completion:
    """One answer, or a failure that a repeat would not cure (`error_class` set, `text` null)."""

    key: str
    text: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    latency_s: float
    attempts: int
    answered_by: str | None = None
    error_class: str | None = None
    error: str | None = None
