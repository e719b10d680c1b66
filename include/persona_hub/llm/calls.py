"""What the calls of one process tell while they run, and who may hold them back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from persona_hub.llm.requests import Completion, Request


@dataclass
class CallStats:
    """Live figures, written by the thread that calls; any other may read them (copy the counters: `dict(stats.kept)`).

    Attributes:
        sent: calls that left for the endpoint, repeated ones included.
        answered: questions that have an answer.
        refused: sends that came back with 429.
        retried: sends that were not a question's first.
        maybe_paid: sends without an answer that may have been billed all the same.
        unanswered: questions given up after all their tries, or left at a stop.
        in_flight: calls at the endpoint now.
        window: calls that may be there at once now.
        prompt_tokens, completion_tokens: of the answers that tell them.
        kept: lasting failures by class, those held back included.
        failed: questions given up, by the class of their last failure.
        other_model: answers of another model than was asked.
        waiting: why nothing is in flight now; else empty.
        stopped: why the calls ended before all was asked; else empty.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    retried: int = 0
    maybe_paid: int = 0
    unanswered: int = 0
    in_flight: int = 0
    window: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    other_model: int = 0
    waiting: str = ""
    stopped: str = ""


class Admission(Protocol):
    """Limits and budgets that calls share with other processes. Both methods run on the event loop of the calls."""

    async def admit(self, request: Request) -> Any:
        """Waits until this call may be sent; asked anew before each send. Cancelled where the calls stop meanwhile.

        Returns:
            what `settle` wants back.

        Raises:
            BudgetReached: nothing more is sent; it is raised once all that flies has come home.
        """
        ...

    def settle(self, ticket: Any, completion: Completion | None) -> None:
        """The call has come home.

        Args:
            ticket: from `admit`.
            completion: the answer, or, without tokens and with `error_class`, a send that may have been billed
                (read timeout, cut connection); None where nothing was billed (refused, an error status, no connection).
        """
        ...
