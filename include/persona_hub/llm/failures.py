"""What went wrong with a call, and what cures it: each failure has a class, each class one cure.

    rate_limited         429                                       RETRY       the window is cut
    overloaded           5xx, 408, 409, 425                        RETRY       503 and 529 cut the window too; any
                                                                               other that lasts while others are
                                                                               answered is kept
    refused_connection   nobody listens; nothing was sent          RETRY
    timeout              no answer in time                         RETRY_ONCE  this and the next four may have been
    disconnected         cut after the call was sent               RETRY_ONCE  billed: the second time the failure is
    half_answer          empty body, half a JSON                   RETRY_ONCE  kept, once another question has been
    no_choice            an answer without choices                 RETRY_ONCE  answered after it; else the question
    upstream_error       status 200 with an error in it            RETRY_ONCE  is left unanswered
    context_length       the prompt is too long for the model      KEEP        these words get no other answer
    content_filter       the provider refuses these words          KEEP
    bad_request          any other 400                             KEEP
    too_large            413                                       KEEP
    unprocessable        422                                       KEEP
    tool_call            a call of a tool instead of a text        KEEP        billed like an answer
    unauthorized         401                                       STOP        a person must act
    forbidden            403                                       STOP
    unknown_model        404, model_not_found                      STOP
    quota_exhausted      402, insufficient_quota                   STOP
    not_an_api           HTML, other JSON, any other status        STOP
    unsendable           no call can be made for this address      STOP        nothing was sent

A refusal, a length limit and a content filter that an answer tells in its finish reason are answers, not failures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm.replies import BadReply, read_reply


class Cure(Enum):
    """What is done about a failure."""

    RETRY = "send again"
    RETRY_ONCE = "send once more, then keep the failure if others are answered: it may have been billed"
    KEEP = "the failure is the answer"
    STOP = "send nothing more"


CURES = {
    **dict.fromkeys(("rate_limited", "overloaded", "refused_connection"), Cure.RETRY),
    **dict.fromkeys(("timeout", "disconnected", "half_answer", "no_choice", "upstream_error"), Cure.RETRY_ONCE),
    **dict.fromkeys(("context_length", "content_filter", "bad_request", "too_large", "unprocessable"), Cure.KEEP),
    "tool_call": Cure.KEEP,
    **dict.fromkeys(("unauthorized", "forbidden", "unknown_model", "quota_exhausted"), Cure.STOP),
    **dict.fromkeys(("not_an_api", "unsendable"), Cure.STOP),
}
SICK = {"overloaded", "refused_connection", "timeout", "disconnected", "half_answer", "upstream_error"}
ACTS = {
    "unauthorized": "correct the key in the connection persona_hub_llm",
    "forbidden": "ask for access to this model, or correct the key in the connection persona_hub_llm",
    "unknown_model": "see that the address in the connection persona_hub_llm ends in /v1 and serves the model",
    "quota_exhausted": "pay the provider's bill, or raise the quota there",
    "not_an_api": "correct the address in the connection persona_hub_llm; it ends in /v1 for most servers",
    "unsendable": "correct the address in the connection persona_hub_llm, or the proxy that the environment names",
}
BY_STATUS = {
    400: "bad_request",
    401: "unauthorized",
    402: "quota_exhausted",
    403: "forbidden",
    404: "unknown_model",
    **dict.fromkeys((408, 409, 425), "overloaded"),
    413: "too_large",
    422: "unprocessable",
    429: "rate_limited",
}
# A provider's own codes say more than the status does. Only codes stop a stage: a message may quote the prompt, and a
# page that speaks of quotas must not end a run.
BY_CODE = {
    **dict.fromkeys(("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"), "quota_exhausted"),
    "model_not_found": "unknown_model",
    "context_length_exceeded": "context_length",
    "exceed_context_size_error": "context_length",
    **dict.fromkeys(("content_filter", "content_policy_violation"), "content_filter"),
}
BY_WORDS = {
    "context length": "context_length",
    "context size": "context_length",
    "context window": "context_length",
    "content management policy": "content_filter",
}
CONGESTED = {429, 503, 529}
QUOTED_CHARS = 300


@dataclass(frozen=True)
class Failure:
    """One send without an answer.

    Attributes:
        error_class: a key of CURES.
        message: what was seen, the server's own words included.
        retry_after_s: for how long the server wants this call to wait.
        congestion: whether the server has too many calls, rather than a fault.
        reply: fields of a Completion that the failed answer told all the same.
    """

    error_class: str
    message: str
    retry_after_s: float = 0.0
    congestion: bool = False
    reply: dict[str, Any] | None = None

    @property
    def cure(self) -> Cure:
        return CURES[self.error_class]

    @property
    def sick(self) -> bool:
        """Whether it speaks of the endpoint's health rather than of this call."""
        return self.error_class in SICK


def judge_response(
    status: int, headers: Mapping[str, str], body: str, secrets: Sequence[str] = ()
) -> dict[str, Any] | Failure:
    """Reads a response, of a call or of a line of a batch.

    Args:
        status: of HTTP.
        headers: names in lower case, or a mapping that does not mind.
        body: as text.
        secrets: what no message may repeat.

    Returns:
        the fields that an answer gives to a Completion, or what is wrong.
    """
    if status == 200:
        try:
            return read_reply(body)
        except BadReply as error:
            return Failure(error.error_class, hide_secrets(str(error), secrets)[:QUOTED_CHARS], reply=error.reply)
    code, said = _read_error(body)
    # Hidden before it is cut: half a key would not be found.
    message = f"HTTP {status}" + (f" ({hide_secrets(said, secrets)[:QUOTED_CHARS]})" if said else "")
    return Failure(_classify(status, code, said), message, read_retry_after(headers), status in CONGESTED)


def build_error(failure: Failure, address: str) -> ModelMisconfigured:
    """What is raised for a failure whose cure is STOP."""
    return ModelMisconfigured(
        f"The model endpoint {address} answers {failure.message}",
        wanted="a chat completion",
        cure=ACTS[failure.error_class],
    )


def read_retry_after(headers: Mapping[str, str]) -> float:
    """Seconds from Retry-After, in seconds or as a date (RFC 9110, 10.2.3); 0 where it says nothing readable."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def hide_secrets(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _classify(status: int, code: str, said: str) -> str:
    if status >= 500:
        return "overloaded"
    own = BY_STATUS.get(status, "not_an_api")
    if code in BY_CODE:
        return BY_CODE[code]
    if own in ("bad_request", "unprocessable"):
        return next((error_class for words, error_class in BY_WORDS.items() if words in said.lower()), own)
    return own


def _read_error(body: str) -> tuple[str, str]:
    """The server's own code and words: of its JSON error where it has one, nothing of an HTML page."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    inner = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(inner, dict):
        return "", str(inner or "")
    code = next((said for name in ("code", "type") if (said := str(inner.get(name))) in BY_CODE), "")
    return code, str(inner.get("message") or "")
