from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_hub.core.verdict import Rejection
from persona_hub.synthesis.data_type import DataType

PERSONA = "A baker who sells sourdough at weekend markets"


@pytest.fixture
def judge() -> Callable[..., str]:
    """The id of the rule that refuses an answer, or `ok`."""

    def run(data_type: DataType, text: str | None, finish_reason: str = "stop") -> str:
        verdict = data_type.read(text, finish_reason, PERSONA)
        return verdict.rule if isinstance(verdict, Rejection) else "ok"

    return run


@pytest.fixture
def judge_published(shared_data: Path) -> Callable[[DataType], Counter[str]]:
    """Verdicts on the first 1,000 samples that were published with the paper."""

    def run(data_type: DataType) -> Counter[str]:
        verdicts: Counter[str] = Counter()
        with gzip.open(shared_data / "tasks" / f"{data_type.name}.jsonl.gz", "rt") as lines:
            for line, _ in zip(lines, range(1_000), strict=False):
                row = json.loads(line)
                verdict = data_type.read(row["synthesized text"], "stop", row["input persona"])
                verdicts[verdict.rule if isinstance(verdict, Rejection) else "ok"] += 1
        return verdicts

    return run
