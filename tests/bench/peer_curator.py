"""bespokelabs-curator at a loopback endpoint: `peer_curator.py URL WINDOW COUNT FOLDER`; resumes by its cache."""

from __future__ import annotations

import sys
from typing import Any

from bench_text import make_question
from bespokelabs import curator
from datasets import Dataset


class Asker(curator.LLM):
    def prompt(self, row: dict[str, Any]) -> str:
        return row["question"]

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        return {"answer": response}


def main(url: str, window: int, count: int, folder: str) -> None:
    # Limits per minute that hold nothing back; a limit of calls in flight it has.
    limits = {"max_requests_per_minute": 10**6, "max_tokens_per_minute": 10**9, "max_concurrent_requests": window}
    asker = Asker(model_name="m", backend="openai", backend_params={"base_url": url, "api_key": "none"} | limits)
    questions = Dataset.from_list([{"question": make_question(number)} for number in range(count)])
    asker(questions, working_dir=folder)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
