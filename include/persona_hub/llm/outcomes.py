"""Which failures are recorded as answers, and when so many calls fail that something else must be wrong.

A failure that will not go away is an answer of its row, but only among answers: where most calls fail, a setting is
wrong or the endpoint is down, and recorded failures would keep the rows from ever being asked again. A failure that may
as well be the endpoint's is in doubt until the endpoint has answered another question.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from persona_hub.errors import ModelError, ModelMisconfigured, ModelUnavailable
from persona_hub.llm.failures import Cure, Failure
from persona_hub.llm.requests import Completion

LEAST = 20
LAST = 100


@dataclass(frozen=True)
class Held:
    """A failure that waits to be recorded: until there are more answers than `answers_before`."""

    completion: Completion
    answers_before: int


class Outcomes:
    """How the questions of one process ended.

    Args:
        address: of the endpoint, for messages.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._held: list[Held] = []
        self._failed = 0
        self.answered = 0
        self._last: deque[Failure | None] = deque(maxlen=LAST)

    @property
    def held(self) -> int:
        return len(self._held)

    def add_answer(self) -> None:
        self.answered += 1
        self._last.append(None)

    def keep(self, failure: Failure, completion: Completion, answers_before: int = -1) -> None:
        """A failure that is the answer: held back until `release`.

        Args:
            answers_before: it is in doubt until there are more answers than these.
        """
        self._held.append(Held(completion, answers_before))
        self.add_failure(failure)

    def add_failure(self, failure: Failure) -> None:
        """A question that failed. One that was only ever refused for want of room tells nothing about the endpoint."""
        if failure.error_class != "rate_limited":
            self._failed += 1
            self._last.append(failure)

    def release(self, at_end: bool = False) -> list[Completion]:
        """The failures that may be recorded now: without doubt, once answers outnumber failures, or at the end.

        They are also released when there are a hundred: had most calls failed, `judge` would have said so.
        """
        if not at_end and self.answered <= self._failed and len(self._held) < LAST:
            return []
        released = [held.completion for held in self._held if held.answers_before < self.answered]
        self._held = [held for held in self._held if held.answers_before >= self.answered]
        return released

    def drop_doubtful(self) -> list[Completion]:
        """Forgets the failures in doubt: they were the endpoint's, or nobody will know."""
        dropped = [held.completion for held in self._held if held.answers_before >= self.answered]
        self._held = [held for held in self._held if held.answers_before < self.answered]
        return dropped

    def judge(self) -> ModelError | None:
        """What is wrong, where more than half of the last questions failed (of 20 at least, of 100 at most)."""
        failures = [failure for failure in self._last if failure]
        if len(self._last) < LEAST or 2 * len(failures) <= len(self._last):
            return None
        classes = Counter(failure.error_class for failure in failures)
        found = (
            f"{len(failures)} of the last {len(self._last)} calls to the model endpoint {self._address} failed "
            f"({', '.join(f'{name} {count}' for name, count in classes.most_common())}); last: {failures[-1].message}"
        )
        wanted = "answers to at least half of them"
        if 2 * sum(failure.cure is Cure.KEEP for failure in failures) > len(failures):
            return ModelMisconfigured(
                found, wanted=wanted, cure="correct the parameters or the model in the connection persona_hub_llm"
            )
        return ModelUnavailable(
            found,
            wanted=wanted,
            cure="see that the server is up and has room, then run the task again: answers so far are kept",
        )
