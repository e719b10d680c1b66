"""The cookbook's parallel processor at a loopback endpoint: `peer_cookbook.py SCRIPT URL WINDOW COUNT FOLDER`.

Two things are set from outside: it knows https addresses only, and no limit of calls in flight (it has aiohttp's 100).
Its limits per minute are set so high that they hold nothing back. It appends to its results, and never reads them.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
from bench_text import make_question


def main(script: str, url: str, window: int, count: int, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("cookbook", script)
    assert spec and spec.loader
    cookbook: Any = importlib.util.module_from_spec(spec)
    sys.modules["cookbook"] = cookbook
    spec.loader.exec_module(cookbook)
    cookbook.api_endpoint_from_url = lambda _: "chat/completions"
    client: Any = aiohttp.client
    client.TCPConnector = functools.partial(aiohttp.TCPConnector, limit=window)
    requests = folder / "requests.jsonl"
    with requests.open("w") as file:
        for number in range(count):
            body = {"model": "m", "messages": [{"role": "user", "content": make_question(number)}]}
            file.write(json.dumps(body) + "\n")
    asyncio.run(
        cookbook.process_api_requests_from_file(
            requests_filepath=str(requests),
            save_filepath=str(folder / "results.jsonl"),
            request_url=f"{url}/chat/completions",
            api_key="none",
            max_requests_per_minute=1e9,
            max_tokens_per_minute=1e12,
            token_encoding_name="cl100k_base",
            max_attempts=5,
            logging_level=30,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
