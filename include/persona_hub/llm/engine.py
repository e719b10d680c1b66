"""The calls of one process, on its event loop: what goes next, and what becomes of what comes home.

    ready ──window has room, breaker closed──► admitted ──► sent ──► an answer, or a failure that is kept
      ▲                                          │           │
      ├───── breaker open or window cut since ───┘           │
      └────────────── after a pause, by its class ───────────┘

A call that waits for its next try is a timer, not a task, and holds no room in the window. A call that fails while the
breaker is open has used up no try: that was the endpoint's failure.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

from persona_hub.errors import ModelUnavailable
from persona_hub.llm.attempts import Call, was_billed
from persona_hub.llm.breaker import Breaker
from persona_hub.llm.calls import Admission, CallStats
from persona_hub.llm.client import ModelClient
from persona_hub.llm.failures import Cure, Failure, build_error
from persona_hub.llm.outcomes import Outcomes
from persona_hub.llm.requests import Completion, Request
from persona_hub.llm.window import Window
from persona_hub.settings import LlmSettings

MAX_RETRY_AFTER_S = 300.0


class Engine:
    """All methods belong to the event loop on which it was made.

    Args:
        client: of the endpoint; closed by whoever made it.
        settings: the endpoint's.
        stats: filled as the calls go.
        come_home: called once for each question that is done, with what is to be recorded now: its answer, failures
            that were held back, nothing. What it raises ends the calls like an error of the endpoint.
        admission: limits and budgets shared with others.
    """

    def __init__(
        self,
        client: ModelClient,
        settings: LlmSettings,
        stats: CallStats,
        come_home: Callable[[list[Completion]], None],
        admission: Admission | None,
    ) -> None:
        self._client, self._settings, self._stats = client, settings, stats
        self._come_home, self._admission = come_home, admission
        self._loop = asyncio.get_running_loop()
        self._window = Window(settings.window)
        self._breaker = Breaker(settings.patience_s)
        self._outcomes = Outcomes(client.address)
        self._ready: deque[Call] = deque()
        self._tasks: dict[asyncio.Task[None], Call] = {}
        self._open = 0  # questions that are not done, wherever they are
        self._last_in = self._stopped = False
        self._wake_up: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._done = asyncio.Event()

    def add(self, request: Request) -> None:
        self._open += 1
        self._ready.append(Call(request))
        self._pump()

    def end_input(self) -> None:
        """No further question comes."""
        self._last_in = True
        self._pump()

    def stop(self, reason: str, error: BaseException | None = None) -> None:
        """Sends nothing more, repeats included; what flies comes home, and then the calls end with the first error."""
        if self._stopped or self._done.is_set():
            return
        self._stopped, self._error, self._stats.stopped = True, error, reason
        for task, call in self._tasks.items():
            if not call.flying:
                task.cancel()
        self._pump()

    async def wait(self) -> None:
        """Until all is done, or all that flew when it was stopped.

        Raises:
            HubError: that of `stop`.
        """
        await self._done.wait()
        if self._error:
            raise self._error

    def _pump(self) -> None:
        """Sends what may go; called whenever anything has changed."""
        while self._ready and self._window.has_room and not self._stopped:
            wait_s = self._breaker.find_wait(time.monotonic())
            if wait_s:
                self._pump_in(wait_s)
                break
            call = self._ready.popleft()
            call.probe = self._breaker.begin()
            self._window.take()
            task = self._loop.create_task(self._run(call))
            self._tasks[task] = call
            task.add_done_callback(self._clear)
        self._stats.window = self._window.size
        self._stats.waiting = self._explain_waiting()
        if not self._tasks and (self._stopped or (self._last_in and not self._open)):
            self._finish()

    def _pump_in(self, wait_s: float) -> None:
        if self._wake_up:
            self._wake_up.cancel()
        self._wake_up = self._loop.call_later(wait_s, self._pump) if wait_s < float("inf") else None

    def _explain_waiting(self) -> str:
        if self._stats.in_flight or not self._open:
            return ""
        if self._breaker.is_open:
            return "the endpoint is sick"
        return "limits" if self._tasks else "another try"

    def _finish(self) -> None:
        if self._done.is_set():
            return
        self._done.set()
        if self._stopped:
            self._stats.unanswered += self._open + self._outcomes.held
        else:
            self._deliver(self._outcomes.release(at_end=True))
            self._leave_doubtful()

    def _clear(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._window.leave()
        if not task.cancelled() and (error := task.exception()):
            self.stop(str(error), error)
        self._pump()

    async def _run(self, call: Call) -> None:
        ticket = await self._admission.admit(call.request) if self._admission else None
        if self._admission and not call.probe and (self._breaker.is_open or self._window.is_overfull):
            self._admission.settle(ticket, None)
            self._ready.appendleft(call)
            return
        result = await self._send(call)
        try:
            if isinstance(result, Completion):
                self._breaker.note_well(time.monotonic())
                self._window.grow()
                self._answer(call, result)
            else:
                counts = not (call.probe or self._breaker.is_open)
                self._note_failure(call, result)
                self._treat(call, result, counts)
        finally:
            if self._admission:
                self._admission.settle(ticket, call.bill(result))

    async def _send(self, call: Call) -> Completion | Failure:
        stats = self._stats
        stats.retried += call.attempts > 0
        call.attempts += 1
        stats.sent += 1
        stats.in_flight += 1
        stats.waiting = ""
        call.flying = True
        call.sent_at = time.monotonic()
        try:
            return await self._client.send(call.request)
        finally:
            stats.in_flight -= 1

    def _note_failure(self, call: Call, failure: Failure) -> None:
        """What the failure says about the endpoint."""
        now, stats = time.monotonic(), self._stats
        if failure.congestion:
            self._window.cut(call.sent_at, now)
        stats.refused += failure.error_class == "rate_limited"
        # An endpoint that refuses even single calls is treated as a sick one: by probes, with growing pauses.
        if not (failure.sick or (failure.congestion and self._window.at_floor)):
            return self._breaker.note_well(now)
        was_open = self._breaker.is_open
        self._breaker.note_sick(now, call.probe, failure.retry_after_s)
        if self._breaker.is_open and not was_open:
            self._window.restart()
            self._leave_doubtful()
        if self._breaker.is_hopeless:
            self._give_up_endpoint(f"was sick for longer than {self._settings.patience_s:g} s", failure)

    def _treat(self, call: Call, failure: Failure, counts: bool) -> None:
        """What becomes of the call; `counts`: whether it has used up a try."""
        once = failure.cure is Cure.RETRY_ONCE
        call.maybe_paid += once
        call.tries += counts
        self._stats.maybe_paid += once
        is_own = failure.error_class == "overloaded" and not failure.congestion
        if is_own and call.answers_before < 0:
            call.answers_before = self._outcomes.answered
        if failure.cure is Cure.STOP:
            self.stop(failure.message, build_error(failure, self._client.address))
        elif failure.cure is Cure.KEEP:
            self._keep(call, failure)
        elif once and call.maybe_paid > 1:
            if self._breaker.is_open and not was_billed(failure):
                self._leave(failure)
            else:
                self._keep(call, failure, self._outcomes.answered)
        elif failure.retry_after_s > MAX_RETRY_AFTER_S:
            self._give_up_endpoint(f"asks to wait for {failure.retry_after_s:.0f} s", failure)
        elif counts and call.tries >= self._settings.max_attempts:
            # Others are answered and this one is not: it is the question, unless the server only has no room for it.
            answered_since = self._outcomes.answered > call.answers_before
            if is_own and (answered_since or not self._breaker.is_open):
                self._keep(call, failure, call.answers_before)
            else:
                self._leave(failure)
        elif not self._stopped:
            pause_s = 0.0 if self._breaker.is_open else call.draw_pause()  # the breaker makes its own
            self._loop.call_later(failure.retry_after_s + pause_s, self._try_again, call)

    def _keep(self, call: Call, failure: Failure, answers_before: int = -1) -> None:
        """The failure is the answer: recorded at once where it was paid for, else when it is beyond doubt."""
        self._stats.kept[failure.error_class] += 1
        if was_billed(failure):
            self._outcomes.add_failure(failure)
            self._end_call(call.record(failure))
        else:
            self._outcomes.keep(failure, call.record(failure), answers_before)
            self._end_call()

    def _leave(self, failure: Failure) -> None:
        """The question has no answer; the next run asks it."""
        self._stats.failed[failure.error_class] += 1
        self._stats.unanswered += 1
        self._outcomes.add_failure(failure)
        self._end_call()

    def _leave_doubtful(self) -> None:
        dropped = Counter(completion.error_class or "" for completion in self._outcomes.drop_doubtful())
        self._stats.kept -= dropped
        self._stats.failed += dropped
        self._stats.unanswered += dropped.total()

    def _try_again(self, call: Call) -> None:
        call.flying = False
        self._ready.append(call)
        self._pump()

    def _answer(self, call: Call, completion: Completion) -> None:
        stats, model = self._stats, call.request.model
        stats.answered += 1
        stats.prompt_tokens += completion.prompt_tokens or 0
        stats.completion_tokens += completion.completion_tokens or 0
        stats.other_model += not (completion.answered_by or model).startswith(model)
        self._outcomes.add_answer()
        self._end_call(call.complete(completion))

    def _end_call(self, *recorded: Completion) -> None:
        self._open -= 1
        error = self._outcomes.judge()
        self._deliver([*recorded, *([] if error else self._outcomes.release())])
        if error:
            self.stop(error.found, error)

    def _deliver(self, completions: list[Completion]) -> None:
        try:
            self._come_home(completions)
        except Exception as error:
            # Unless all is over: then what could not be recorded is raised all the same.
            self._error = self._error or error
            self.stop(str(error), error)

    def _give_up_endpoint(self, what: str, failure: Failure) -> None:
        error = ModelUnavailable(
            f"The model endpoint {self._client.address} {what}; last: {failure.message}",
            wanted="a chat completion",
            cure="see that the server is up and has room, then run the task again: answers so far are kept",
        )
        self.stop(error.found, error)
