"""A process that calls through `Calling` and measures itself; started by bench_tools.Worker.

Its plan is JSON: `settings`, the numbers `first` and `count` of its questions, and, where they matter, `seconds` after
which it stops, `lake` for limits that processes share, `run_id`, `spool`, a folder for its answers, and `plain`, by
which it uses the package as it comes, with a pool that has the window's size.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
from bench_text import make_question
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from persona_hub.llm.admission import open_admission
from persona_hub.llm.client import build_body
from persona_hub.llm.requests import Completion, Request
from persona_hub.llm.spool import SpoolWriter
from persona_hub.llm.stream import Calling
from persona_hub.settings import LlmSettings, load_settings

FIELDS = dict.fromkeys(("slice", "stage", "data_type", "run_id", "prompt_hash", "model"), "x")


def make_requests(first: int, count: int) -> Iterator[Request]:
    for number in range(first, first + count):
        yield Request("m", [{"role": "user", "content": make_question(number)}])


class Meter:
    """Takes the answers."""

    def __init__(self, count: int, spool: str) -> None:
        self.arrived = array("d")
        self.spool_s = 0.0
        self.memory: list[int] = []
        self._writer = SpoolWriter(Path(spool), FIELDS, None) if spool else None
        self._marks = {count // 10, count}
        self._process = psutil.Process()

    def take(self, completion: Completion) -> None:
        if self._writer:
            begun = time.thread_time()
            self._writer.write(completion)
            self.spool_s += time.thread_time() - begun
        self.arrived.append(time.monotonic())
        if len(self.arrived) in self._marks:
            self.memory.append(self._process.memory_info().rss)

    def find_steady_rate(self, window: int) -> float | None:
        """Answers a second from the end of the ramp to the last full window; both ends lie alike in their wave."""
        first, last = 4 * window, len(self.arrived) - window - 1
        last -= (last - first) % window
        return (last - first) / (self.arrived[last] - self.arrived[first]) if last > first else None


def call(plan: dict[str, Any]) -> dict[str, Any]:
    settings = load_settings(plan["settings"] | {"PERSONA_HUB_HOME": plan.get("lake", "/nowhere")})
    meter = Meter(plan["count"], plan.get("spool", ""))
    admission = None
    if plan.get("lake"):
        run = plan.get("run_id", "run")
        admission = open_admission(plan["lake"], settings.llm, settings.budget, None, run_id=run, stage="S/1/bench")
    calling = Calling(settings.llm, ("seed",), meter.take, admission)
    sys.stdin.readline()
    if plan.get("seconds"):
        threading.Timer(plan["seconds"], calling.request_stop, ["time is over"]).start()
    requests = make_requests(plan["first"], plan["count"])
    begun, used = time.monotonic(), time.process_time()
    if plan.get("plain"):
        asyncio.run(call_plainly(settings.llm, requests, meter.arrived))
    else:
        for _ in calling.answer_all(requests):
            pass
    seconds, cpu_s = time.monotonic() - begun, time.process_time() - used
    if admission:
        admission.close()
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "spool_s": meter.spool_s,
        "answered": len(meter.arrived),
        "steady_rate": meter.find_steady_rate(settings.llm.window),
        "memory": meter.memory,
    }


async def call_plainly(settings: LlmSettings, requests: Iterator[Request], arrived: array[float]) -> None:
    limits = httpx2.Limits(max_connections=settings.window, max_keepalive_connections=settings.window)
    http = DefaultAsyncHttpxClient(limits=limits)
    client = AsyncOpenAI(base_url=settings.base_url, api_key="none", max_retries=0, http_client=http)

    async def take_turns() -> None:
        for request in requests:
            await client.chat.completions.create(**build_body(request, ("seed",)))
            arrived.append(time.monotonic())

    await asyncio.gather(*(take_turns() for _ in range(settings.window)))
    await client.close()


if __name__ == "__main__":
    print("ready", flush=True)
    print(json.dumps(call(json.loads(sys.argv[1]))), flush=True)
