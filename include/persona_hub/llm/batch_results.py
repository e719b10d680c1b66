"""What a batch brought: answers and lasting failures to the spool, the rest counted and left pending."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from persona_hub.errors import ModelError, ModelMisconfigured
from persona_hub.llm.failures import Cure, Failure, judge_response
from persona_hub.llm.outcomes import LEAST
from persona_hub.llm.requests import Completion
from persona_hub.llm.spool import SpoolWriter

SILENT = dict.fromkeys(("text", "finish_reason", "prompt_tokens", "cached_tokens", "completion_tokens"))


@dataclass
class Results:
    """Of one batch; see `Harvest`."""

    answered: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    fault: ModelError | None = None


@dataclass
class Harvest:
    """What came home of the batches that had ended.

    Attributes:
        batches: that ended with lines.
        answered: answers among them, and lasting failures that are kept as such.
        left: lines that stay pending, by what the endpoint said.
        money: of the answers; None where no price is known.
        no_room: batches that the provider had no room for; `submit` asks for them again.
        faults: what a person must mend.
    """

    batches: int = 0
    answered: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    money: float | None = 0.0
    no_room: int = 0
    faults: list[ModelError] = field(default_factory=list)

    def raise_faults(self) -> None:
        """Raises what a person must mend; what came home is in the spool all the same.

        Raises:
            ModelUnavailable, ModelMisconfigured: the first fault.
        """
        if self.faults:
            raise self.faults[0]

    def add(self, results: Results, money: float | None) -> None:
        self.batches += 1
        self.answered += results.answered
        self.kept.update(results.kept)
        self.left.update(results.left)
        if results.fault:
            self.faults.append(results.fault)
        self.money = None if self.money is None or money is None else self.money + money

    def __str__(self) -> str:
        money = "unknown" if self.money is None else f"{self.money:.4f}"
        return (
            f"{self.batches} batches ended: {self.answered} answers, money {money}; kept as failures: "
            f"{dict(self.kept) or 'none'}; left to be asked by calls: {dict(self.left) or 'none'}"
        )


def write_results(
    results: Iterable[tuple[str, Completion | str]], keys: set[str], writer: SpoolWriter, name: str
) -> Results:
    """Writes answers as they come, and the failures that are answers at the end, unless most lines are failures.

    Args:
        results: of `read_line`.
        keys: what the batch asked; emptied of what has a result.
        writer: of the stage's spool.
        name: of the batch, for messages.
    """
    counts, failures = Results(), list[Completion]()
    for key, result in results:
        if key not in keys:
            counts.left["line of no request"] += 1
            continue
        keys.remove(key)
        if isinstance(result, str):
            counts.left[result] += 1
        elif result.error_class:
            failures.append(result)
        else:
            writer.write(result)
            counts.answered += 1
    counts.left += Counter({"no line": len(keys)})
    classes = Counter(failure.error_class or "" for failure in failures)
    if 2 * len(failures) > counts.answered + len(failures) >= LEAST:
        # A setting is wrong. Recorded, the failures would keep the rows from ever being asked again.
        counts.left += classes
        counts.fault = ModelMisconfigured(
            f"{len(failures)} of {counts.answered + len(failures)} lines of {name} failed; last: "
            f"{failures[-1].error_class}, {failures[-1].error}",
            wanted="answers to at least half of them",
            cure="correct the parameters or the model in the connection persona_hub_llm; the answers are kept",
        )
        return counts
    for failure in failures:
        writer.write(failure)
    counts.kept = classes
    return counts


def read_line(line: bytes, secrets: list[str]) -> tuple[str, Completion | str]:
    """A line of an output or error file.

    Returns:
        the completion key, and an answer, or a failure that is one (llm/failures.py), or why there is none: the class
        of a failure that another try may cure and that was not billed, or the provider's own code where the request was not executed.
    """
    try:
        told: dict[str, Any] = json.loads(line)
        key, response = str(told["custom_id"]), told.get("response")
        if not response:
            return key, str(told["error"]["code"])
        result = judge_response(response["status_code"], {}, json.dumps(response["body"]), secrets)
    except (ValueError, LookupError, TypeError):
        return "", "unreadable"
    if not isinstance(result, Failure):
        return key, Completion(key, latency_s=0.0, attempts=1, **result)
    failed: dict[str, Any] = SILENT | (result.reply or {})
    if result.cure is not Cure.KEEP and failed["completion_tokens"] is None:
        return key, result.error_class
    failed |= {"error_class": result.error_class, "error": result.message}
    failed["maybe_paid"] = int(result.cure is Cure.RETRY_ONCE)  # as for a call
    return key, Completion(key, latency_s=0.0, attempts=1, **failed)
