"""The body of a chat completion, read with suspicion."""

from __future__ import annotations

import json
from typing import Any

from persona_hub.errors import ModelMisconfigured


class Incomplete(Exception):
    """The body is what a broken server or connection leaves; another try may bring a whole one."""


def read_reply(body: str, address: str) -> dict[str, Any]:
    """Text, finish reason, tokens and answering model of a reply; what it does not say is None.

    A refusal in the `refusal` field becomes the text, with `refusal` as finish reason.

    Raises:
        Incomplete: empty, half a JSON, an error in place of an answer, or no choice in it.
        ModelMisconfigured: HTML, or JSON that is no chat completion: no OpenAI-compatible API answers there.
    """
    if not body.strip():
        raise Incomplete("an empty body")
    if body.lstrip().startswith("<"):
        raise _misfit(address, "HTML")
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise Incomplete(f"half a JSON ({len(body)} characters)") from None
    if not isinstance(reply, dict):
        raise _misfit(address, f"a JSON {_name_kind(reply)}")
    choices = reply.get("choices")
    if not choices and reply.get("error"):
        # Some gateways report a failed upstream with status 200.
        raise Incomplete(f"an error in place of an answer ({str(reply['error'])[:300]})")
    if choices == []:
        raise Incomplete("no choice in the answer")
    if not (isinstance(choices, list) and isinstance(choices[0], dict) and isinstance(choices[0].get("message"), dict)):
        raise _misfit(address, f"a JSON object with the keys {sorted(reply)[:8]}")
    choice, message = choices[0], choices[0]["message"]
    text, reason = message.get("content"), choice.get("finish_reason")
    if text is None:
        text = message.get("refusal") or ""
        reason = "refusal" if text else reason
    if not isinstance(text, str):
        raise _misfit(address, f"a message whose content is a {_name_kind(text)}")
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    return {
        "text": text,
        "finish_reason": reason if isinstance(reason, str) else None,
        "prompt_tokens": _take_count(usage.get("prompt_tokens")),
        "cached_tokens": _take_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
        "completion_tokens": _take_count(usage.get("completion_tokens")),
        "answered_by": reply["model"] if isinstance(reply.get("model"), str) else None,
    }


def _take_count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _name_kind(value: Any) -> str:
    return next(
        (name for kind, name in ((list, "list"), (str, "text"), (dict, "object")) if isinstance(value, kind)), "value"
    )


def _misfit(address: str, found: str) -> ModelMisconfigured:
    return ModelMisconfigured(
        f"The address {address} answers {found}",
        wanted="a chat completion as JSON object",
        cure="correct the address in the connection persona_hub_llm; it ends in /v1 for most servers",
    )
