"""Many calls at once over a bounded window: answers come out as they arrive, requests are pulled as there is room.

The calls run on an event loop in a thread of their own, so whoever consumes (a Spark partition) stays plain and
synchronous. A paid answer is never lost: on an error, or when the consumer stops, nothing more is sent, and what
flies comes home through `on_answer` before the error goes on.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator

from persona_hub.llm.client import ModelClient
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import LlmSettings

# Requests taken ahead, in windows, so that the window stays full while the consumer is busy elsewhere.
AHEAD = 2


def answer_all(
    requests: Iterator[Request], settings: LlmSettings, on_answer: Callable[[Completion], None]
) -> Iterator[Completion]:
    """Asks all, at most `settings.window` at once, and yields the answers in the order of their arrival.

    Args:
        requests: pulled in the caller's thread, at most two windows ahead of the answers yielded.
        settings: the endpoint and the window.
        on_answer: called with each answer before it is yielded, one call at a time, in the background thread; what
            it raises is fatal like a model's error. Make the answer durable here.

    Raises:
        ModelUnavailable, ModelMisconfigured: as `ModelClient`; the first one, after all that flew has come home.
    """
    calls = _Calls(settings, on_answer)
    try:
        for request in requests:
            calls.send(request)
            yield from calls.take_arrived()
            while calls.pending >= AHEAD * settings.window:
                yield calls.take()
        while calls.pending:
            yield calls.take()
    finally:
        calls.close()


class _Calls:
    """The background thread with its loop and workers; all methods are the consumer's."""

    def __init__(self, settings: LlmSettings, on_answer: Callable[[Completion], None]) -> None:
        self._settings, self._on_answer = settings, on_answer
        self._arrived: queue.SimpleQueue[Completion | BaseException] = queue.SimpleQueue()
        self._stopped = False
        self.pending = 0
        self._client: ModelClient | None = None
        started: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), name="model-calls", daemon=True)
        self._thread.start()
        if error := started.get():
            self._thread.join()
            raise error

    def send(self, request: Request) -> None:
        self.pending += 1
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, request)

    def take(self) -> Completion:
        """The next arrival; waits for it."""
        arrival = self._arrived.get()
        if isinstance(arrival, BaseException):
            raise arrival
        self.pending -= 1
        return arrival

    def take_arrived(self) -> Iterator[Completion]:
        while not self._arrived.empty():
            yield self.take()

    def close(self) -> None:
        """Sends nothing more and waits for what flies."""
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()

    def _stop(self) -> None:
        self._stopped = True
        if self._client:
            self._client.stop()
        for _ in range(self._settings.window):
            self._inbox.put_nowait(None)

    async def _run(self, started: queue.SimpleQueue[BaseException | None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Request | None] = asyncio.Queue()
        try:
            self._client = client = ModelClient(self._settings)
        except Exception as error:
            started.put(error)
            return
        started.put(None)
        try:
            await asyncio.gather(*(self._work(client) for _ in range(self._settings.window)))
        finally:
            await client.aclose()

    async def _work(self, client: ModelClient) -> None:
        while (request := await self._inbox.get()) is not None and not self._stopped:
            try:
                completion = await client.ask(request)
                self._on_answer(completion)
            except Exception as error:
                self._stop()
                self._arrived.put(error)
            else:
                self._arrived.put(completion)
