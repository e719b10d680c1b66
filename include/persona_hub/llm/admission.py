"""Who may send a call, and when: the hard limits and the budget of all runs, for the calls of one process.

One thread does all the work on files, so the event loop never waits for a lock: it takes what is wanted and what came
home since the last time, and answers all of it in one exchange. Between two exchanges nothing is kept in store: a call
is granted to who waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from persona_hub.errors import BudgetReached, HubError
from persona_hub.llm.budget import MoneyMeter
from persona_hub.llm.limits import SILENCE_S, EndpointLimits
from persona_hub.llm.pricing import Price, bound_cost, bound_tokens, compute_cost
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import BudgetSettings, LlmSettings
from persona_hub.tables.shared_state import name_holder

log = logging.getLogger(__name__)

# Between two exchanges: while calls wait; to say what came home; to say that we live, and put back a lost file.
PAUSE_S, FLUSH_S, RENEWAL_S = 0.005, 0.02, 1.0
MONEY_WAIT_S = 0.05
# Weight of one answer in what share of the bound of its tokens a call is expected to use.
LEARNING = 1 / 16


@dataclass(frozen=True, eq=False)
class Ticket:
    """One send: what it may cost, in which scopes, and the tokens taken for it, of at most so many."""

    bound: float
    scopes: tuple[str, ...]
    tokens: float
    most_tokens: int


@dataclass(eq=False)
class _Waiter:
    future: asyncio.Future[Ticket]
    bound: float
    most_tokens: int
    ticket: Ticket | None = None


class SharedAdmission:
    """Admits calls of one process; see `open_admission`."""

    def __init__(self, limits: EndpointLimits | None, meter: MoneyMeter | None, price: Price | None) -> None:
        self._limits, self._meter, self._price = limits, meter, price
        self._changed = threading.Condition()
        self._waiters: deque[_Waiter] = deque()
        self._open: set[Ticket] = set()
        self._spent: dict[str, float] = {}
        self._unused = 0.0
        self._expected_share = 1.0
        self._unsaid = self._closed = False
        self._not_before = self._said_at = 0.0
        # What comes home makes room at once, but for limits per minute.
        self._homecoming_helps = meter is not None or (limits is not None and limits.counts_in_flight)
        self._thread = threading.Thread(target=self._run, name="call-limits", daemon=True)
        self._thread.start()

    async def admit(self, request: Request) -> Ticket:
        """Waits until one send of this request is within all limits.

        Raises:
            BudgetReached: it might pass a line of the budget.
            LakeError: the lake's files cannot be changed.
        """
        bound = bound_cost(request, self._price) if self._meter and self._price else 0.0
        waiter = _Waiter(asyncio.get_running_loop().create_future(), bound, sum(bound_tokens(request)))
        with self._changed:
            self._waiters.append(waiter)
            self._changed.notify()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def settle(self, ticket: Ticket, completion: Completion | None) -> None:
        """Ends what `admit` began; twice is once.

        Args:
            ticket: what `admit` gave.
            completion: what came of it: one that does not say what it used counts in full; None where nothing was
                billed.
        """
        with self._changed:
            if not completion:
                self._give_back(ticket, 0.0, ticket.tokens)
            elif completion.prompt_tokens is None or completion.completion_tokens is None:
                self._give_back(ticket, ticket.bound, ticket.tokens)
            else:
                used = completion.prompt_tokens + completion.completion_tokens
                self._expected_share += LEARNING * (used / ticket.most_tokens - self._expected_share)
                self._give_back(ticket, compute_cost(completion, self._price) or 0.0, used)

    def close(self) -> None:
        """Gives everything back; a call that is not settled counts as paid in full."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        with self._changed:
            for ticket in list(self._open):
                self._give_back(ticket, ticket.bound, ticket.tokens)
        try:
            self._exchange([])
        except HubError as error:
            log.warning("limits could not be given back, and count until this process ends: %s", error)

    def _give_back(self, ticket: Ticket, cost: float, used: float) -> None:
        if ticket not in self._open:
            return
        self._open.remove(ticket)
        for scope in ticket.scopes:
            self._spent[scope] = self._spent.get(scope, 0.0) + cost
        self._unused += ticket.tokens - used
        self._unsaid = True
        if self._homecoming_helps:
            self._not_before = min(self._not_before, self._said_at + PAUSE_S)
        self._changed.notify()

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._changed:
            if waiter.ticket:
                self._give_back(waiter.ticket, cost=0.0, used=0.0)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)

    def _run(self) -> None:
        while self._wait_for_work():
            with self._changed:
                waiters = list(self._waiters)
            error: Exception | None
            try:
                wait_s, error = self._exchange(waiters)
            except Exception as failure:  # theirs to see: nobody looks at this thread
                wait_s, error = MONEY_WAIT_S, failure
            with self._changed:
                self._said_at = time.monotonic()
                self._not_before = self._said_at + max(PAUSE_S, wait_s)
                if error is None:
                    continue
                for waiter in [one for one in waiters if one in self._waiters]:
                    self._waiters.remove(waiter)
                    _tell(waiter, error)

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._closed:
                due = self._not_before
                if not self._waiters:
                    due = self._said_at + (FLUSH_S if self._unsaid else RENEWAL_S if self._open else math.inf)
                if (wait_s := due - time.monotonic()) <= 0:
                    self._unsaid = False
                    return True
                self._changed.wait(min(wait_s, threading.TIMEOUT_MAX))
        return False

    def _exchange(self, waiters: list[_Waiter]) -> tuple[float, BudgetReached | None]:
        """Tells the files what came home, grants what they allow; seconds until asking again makes sense."""
        with self._changed:
            needs = [waiter.most_tokens * self._expected_share for waiter in waiters]
            held, unused, spent = len(self._open), self._unused, dict(self._spent)
            reserved: dict[str, float] = {}
            for ticket in self._open:
                for scope in ticket.scopes:
                    reserved[scope] = reserved.get(scope, 0.0) + ticket.bound
        granted, wait_s, scopes, reached = len(waiters), 0.0, {}, None
        bounds = [waiter.bound for waiter in waiters]
        if self._meter:  # first: requests taken from a limit per minute cannot be given back
            scopes = self._meter.find_scopes()
            granted, reached = self._meter.exchange(reserved, spent, scopes, bounds)
            self._add(0.0, {scope: -money for scope, money in spent.items()})
            wait_s = MONEY_WAIT_S if granted < len(waiters) else 0.0
        if self._limits:
            payable = granted
            turn = self._limits.exchange(held, needs[:payable], unused)
            granted, wait_s = turn.granted, turn.wait_s or wait_s
            self._add(-unused + sum(needs[:granted]), {})  # what is not given out below was not used
            if self._meter and granted < payable:  # money is no one's while its call waits for a limit
                for scope in scopes.values():
                    reserved[scope] = reserved.get(scope, 0.0) + sum(bounds[:granted])
                self._meter.exchange(reserved, {}, scopes, [])
                reached = None
        for waiter, tokens in zip(waiters[:granted], needs, strict=False):
            self._grant(waiter, Ticket(waiter.bound, tuple(scopes.values()), tokens, waiter.most_tokens))
        return wait_s, reached

    def _add(self, unused: float, spent: dict[str, float]) -> None:
        with self._changed:
            self._unused += unused
            for scope, money in spent.items():
                self._spent[scope] += money

    def _grant(self, waiter: _Waiter, ticket: Ticket) -> None:
        with self._changed:
            if waiter not in self._waiters:
                return  # withdrawn meanwhile
            self._waiters.remove(waiter)
            waiter.ticket = ticket
            self._open.add(ticket)
            self._unused -= ticket.tokens
        _tell(waiter, ticket)


def open_admission(
    lake: str, settings: LlmSettings, budget: BudgetSettings, price: Price | None, *, run_id: str, stage: str
) -> SharedAdmission | None:
    """What admits the calls of this process to an endpoint; None where there is neither a hard limit nor a budget.

    Args:
        lake: root folder of the lake.
        settings: the endpoint and its limits.
        budget: the lines.
        price: of the model (`find_price`, which sees that there is one where there is a budget).
        run_id: of the DAG's run.
        stage: `<slice>/<stage>` or `<slice>/<stage>/<data type>`.
    """
    holder, limits, meter = name_holder(), None, None
    if settings.max_in_flight or settings.requests_per_minute or settings.tokens_per_minute:
        limits = EndpointLimits(lake, settings, holder)
    if budget.is_set:
        if price is None:
            raise ValueError(f"a budget, but no price for {settings.model}")
        meter = MoneyMeter(lake, budget, run_id, stage, holder, settings.timeout_s + SILENCE_S)
    return SharedAdmission(limits, meter, price) if limits or meter else None


def _tell(waiter: _Waiter, outcome: Ticket | Exception) -> None:
    def resolve() -> None:
        if waiter.future.done():
            return
        if isinstance(outcome, Exception):
            waiter.future.set_exception(outcome)
        else:
            waiter.future.set_result(outcome)

    with suppress(RuntimeError):  # its loop is closed: `close` settles the ticket
        waiter.future.get_loop().call_soon_threadsafe(resolve)
