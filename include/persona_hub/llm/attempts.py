"""A question on its way: how often it was sent, and what is told of it in the end."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace

from persona_hub.llm.failures import Cure, Failure
from persona_hub.llm.requests import Completion, Request

BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0


@dataclass(eq=False, slots=True)
class Call:
    """One question and its sends so far.

    Attributes:
        tries: of these sends, those that count: what fails while the breaker is open tells nothing of this call.
        maybe_paid: sends without an answer that may have been billed all the same.
        sent_at: when the last one left, by the monotonic clock.
        flying: whether it has left and is not yet waiting for another try.
        probe: whether it finds out for the others if the endpoint is well again.
        answers_before: answers to other questions until the server failed at it first; -1 where it did not.
    """

    request: Request
    attempts: int = 0
    tries: int = 0
    maybe_paid: int = 0
    sent_at: float = 0.0
    flying: bool = False
    probe: bool = False
    answers_before: int = -1

    def draw_pause(self) -> float:
        """Seconds before the next try: full jitter below half a second, doubled per try that counts, at most 30 s."""
        most = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (self.tries - 1))
        return random.uniform(0, most)  # noqa: S311, spreads calls, keeps no secret

    def complete(self, completion: Completion) -> Completion:
        """The answer of the last send, with what the earlier ones add."""
        if self.attempts == 1:
            return completion
        return replace(completion, attempts=self.attempts, maybe_paid=self.maybe_paid)

    def record(self, failure: Failure) -> Completion:
        """The failure of the last send, as it is kept in place of an answer."""
        unknown = dict.fromkeys(("finish_reason", "prompt_tokens", "cached_tokens", "completion_tokens"))
        return Completion(
            key=self.request.key,
            text=None,
            **(unknown | (failure.reply or {})),
            latency_s=time.monotonic() - self.sent_at,
            attempts=self.attempts,
            maybe_paid=self.maybe_paid,
            error_class=failure.error_class,
            error=failure.message,
        )

    def bill(self, result: Completion | Failure) -> Completion | None:
        """For the budget, what the last send was billed or may have been."""
        if isinstance(result, Completion):
            return result
        return self.record(result) if result.reply or result.cure is Cure.RETRY_ONCE else None


def was_billed(failure: Failure) -> bool:
    """Whether an answer came that is no good, but stands on the bill."""
    reply = failure.reply or {}
    return any(reply.get(name) is not None for name in ("finish_reason", "prompt_tokens", "completion_tokens"))
