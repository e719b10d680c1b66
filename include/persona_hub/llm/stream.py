"""Many calls at once over a bounded window: answers come out as they arrive, requests are pulled as there is room.

The calls run on an event loop in a thread of their own, so whoever consumes (a Spark partition) stays plain and
synchronous. A paid answer is never lost: on an error, at a stop, or when the consumer goes away, nothing more is sent,
and what flies comes home through `on_answer` before anything else happens.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import uvloop

from persona_hub.llm.calls import Admission, CallStats
from persona_hub.llm.client import ModelClient
from persona_hub.llm.engine import Engine
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import LlmSettings

# Requests taken ahead, in windows, so that the window stays full while the consumer is busy elsewhere.
AHEAD = 2


class Calling:
    """The calls of one process to one endpoint; good for one `answer_all`.

    Args:
        settings: the endpoint and how it is asked.
        features: what it can do.
        on_answer: called with each answer, and each failure that is recorded as one, before it is yielded: one at a
            time, in the background thread. Make it durable here; what it raises ends the calls.
        admission: limits and budgets shared with other processes.

    Attributes:
        stats: live; may be read from any thread.
    """

    def __init__(
        self,
        settings: LlmSettings,
        features: tuple[str, ...],
        on_answer: Callable[[Completion], None],
        admission: Admission | None = None,
    ) -> None:
        self.stats = CallStats()
        self._settings, self._features = settings, features
        self._on_answer, self._admission = on_answer, admission
        self._arrived: queue.SimpleQueue[list[Completion] | None] = queue.SimpleQueue()
        self._pending = 0
        self._over = False
        self._stop_reason = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._error: BaseException | None = None

    def answer_all(self, requests: Iterator[Request]) -> Iterator[Completion]:
        """Asks all and yields what was recorded, in the order of its arrival.

        A question that was given up after all its tries is not yielded: `stats.failed` counts it.

        Args:
            requests: pulled in the caller's thread, at most two windows ahead of the answers yielded.

        Raises:
            ModelUnavailable: the endpoint was sick for longer than `patience_s`, or most calls failed that way.
            ModelMisconfigured: a person must act.
            HubError: what the admission raised. Each of them only after all that flew has come home.
        """
        started = threading.Event()
        thread = threading.Thread(target=self._run_thread, args=(started,), name="model-calls", daemon=True)
        thread.start()
        started.wait()
        try:
            most = AHEAD * self._settings.window
            for request in requests if self._engine else ():
                if self._over or self._stop_reason:
                    break
                self._pending += 1
                self._tell(Engine.add, request)
                while not self._over and (self._pending >= most or not self._arrived.empty()):
                    yield from self._take()
            self._tell(Engine.end_input)
            while not self._over:
                yield from self._take()
        finally:
            self._tell(Engine.stop, "nobody takes the answers")  # tells nothing to one that has ended
            thread.join()
        if self._error:
            raise self._error

    def request_stop(self, reason: str) -> None:
        """Sends nothing more; what flies is awaited and recorded, then `answer_all` ends as if that were all.

        From any thread, or from a signal handler.
        """
        self._stop_reason = reason
        self._tell(Engine.stop, reason)

    def _take(self) -> list[Completion]:
        """What came home next; waits for it."""
        home = self._arrived.get()
        self._over = home is None
        self._pending -= 1
        return home or []

    def _tell(self, act: Callable[..., None], *values: Any) -> None:
        if self._loop and self._engine:
            with suppress(RuntimeError):  # the loop is closed: all has ended
                self._loop.call_soon_threadsafe(act, self._engine, *values)

    def _run_thread(self, started: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._call(started))
        except BaseException as error:
            self._error = error
        finally:
            self._arrived.put(None)
            started.set()

    async def _call(self, started: threading.Event) -> None:
        client = ModelClient(self._settings, self._features)
        try:
            engine = Engine(client, self._settings, self.stats, self._come_home, self._admission)
            self._loop, self._engine = asyncio.get_running_loop(), engine
            if self._stop_reason:
                engine.stop(self._stop_reason)
            started.set()
            await engine.wait()
        finally:
            await client.aclose()

    def _come_home(self, completions: list[Completion]) -> None:
        for completion in completions:
            self._on_answer(completion)
        self._arrived.put(completions)
