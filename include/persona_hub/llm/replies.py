"""The body of a chat completion, read with suspicion."""

from __future__ import annotations

import json
from typing import Any

# What JSON keeps exactly (RFC 8259, 6); a greater one is no count of tokens, and fits no column.
MAX_COUNT = 2**53


class BadReply(Exception):
    """A body with status 200 that holds no answer.

    Attributes:
        error_class: of llm.failures.
        reply: what it tells all the same (tokens above all), as fields of a Completion.
    """

    def __init__(self, error_class: str, found: str, reply: dict[str, Any] | None = None) -> None:
        super().__init__(found)
        self.error_class, self.reply = error_class, reply


def read_reply(body: str) -> dict[str, Any]:
    """Text, finish reason, tokens and answering model of a reply, as fields of a Completion; None where it is silent.

    A refusal in the `refusal` field becomes the text, with `refusal` as finish reason.

    Raises:
        BadReply: half_answer, upstream_error, no_choice, tool_call or not_an_api.
    """
    if not body.strip():
        raise BadReply("half_answer", "an empty body")
    if body.lstrip().startswith("<"):
        raise BadReply("not_an_api", "HTML")
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise BadReply("half_answer", f"half a JSON ({len(body)} characters)") from None
    if not isinstance(reply, dict):
        raise BadReply("not_an_api", f"a JSON {_name_kind(reply)}")
    choices = reply.get("choices")
    if not choices and reply.get("error"):
        # Some gateways report a failed upstream with status 200.
        raise BadReply("upstream_error", f"an error in place of an answer ({reply['error']})")
    usage = _read_usage(reply)
    if choices == []:
        raise BadReply("no_choice", "no choice in the answer", usage)
    if not (isinstance(choices, list) and isinstance(choices[0], dict) and isinstance(choices[0].get("message"), dict)):
        raise BadReply("not_an_api", f"a JSON object with the keys {sorted(reply)[:8]}")
    choice, message = choices[0], choices[0]["message"]
    text, reason = message.get("content"), choice.get("finish_reason")
    if not text and message.get("tool_calls"):
        raise BadReply("tool_call", "a call of a tool instead of a text", usage | {"finish_reason": "tool_calls"})
    if text is None:
        text = message.get("refusal") or ""
        reason = "refusal" if text else reason
    if not isinstance(text, str):
        raise BadReply("not_an_api", f"a message whose content is a {_name_kind(text)}")
    return usage | {"text": text, "finish_reason": reason if isinstance(reason, str) else None}


def _read_usage(reply: dict[str, Any]) -> dict[str, Any]:
    usage = _take_object(reply, "usage")
    return {
        "prompt_tokens": _take_count(usage, "prompt_tokens"),
        "cached_tokens": _take_count(_take_object(usage, "prompt_tokens_details"), "cached_tokens"),
        "completion_tokens": _take_count(usage, "completion_tokens"),
        "reasoning_tokens": _take_count(_take_object(usage, "completion_tokens_details"), "reasoning_tokens"),
        "answered_by": reply["model"] if isinstance(reply.get("model"), str) else None,
    }


def _take_object(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _take_count(values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def _name_kind(value: Any) -> str:
    return next(
        (name for kind, name in ((list, "list"), (str, "text"), (dict, "object")) if isinstance(value, kind)), "value"
    )
