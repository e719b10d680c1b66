"""The money meter: what all runs together have spent and may still spend, in one file on the lake.

Before a call its upper bound is reserved in every scope that has a line (this run, this stage of it, this day, this
month); after it, what it cost is spent instead. Reserved and spent together never pass a line, so neither do the costs.
Where only what others still have in flight stands in the way, a call waits for them; once what is spent leaves no room
for it, it is BudgetReached.

The meter does not count too little: a cost that nobody knows counts as its bound, and so does what a dead process had
reserved. The ledger has the last word upwards (`raise_spent`, at the start of a stage); a lost file comes back from
the ledger, and from every living process, which writes what it last saw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from persona_hub.errors import BudgetReached
from persona_hub.settings import BudgetSettings
from persona_hub.tables.shared_state import LOOK_S, SharedState, is_gone

# Seconds without a call after which a scope is dropped. What is in the ledger comes back with `raise_spent`.
FORGET_S = {"run": 7_200.0, "stage": 7_200.0, "day": 2 * 86_400.0, "month": 40 * 86_400.0}
ROUNDING = 1e-9


@dataclass
class Scope:
    """Money spent, and when that last grew, in seconds since the epoch."""

    spent: float = 0.0
    touched: float = 0.0


@dataclass
class Reservation:
    """What one holder's calls in flight may cost, by scope."""

    by_scope: dict[str, float]
    expires: float


@dataclass
class Accounts:
    """The meter's file."""

    scopes: dict[str, Scope] = field(default_factory=dict)
    reserved: dict[str, Reservation] = field(default_factory=dict)
    looked_at: float = 0.0

    def spend(self, scope: str, money: float, now: float) -> None:
        entry = self.scopes.setdefault(scope, Scope())
        entry.spent, entry.touched = entry.spent + money, now

    def raise_to(self, scope: str, spent: float, now: float) -> None:
        self.spend(scope, max(0.0, spent - self.scopes.get(scope, Scope()).spent), now)

    def settle_for_the_gone(self, now: float) -> None:
        if 0 <= now - self.looked_at < LOOK_S:
            return
        self.looked_at = now
        for holder in [name for name, entry in self.reserved.items() if is_gone(name, entry.expires, now)]:
            for scope, money in self.reserved.pop(holder).by_scope.items():
                self.spend(scope, money, now)
        for name, entry in list(self.scopes.items()):
            if entry.touched < now - FORGET_S[name.partition(":")[0]]:
                del self.scopes[name]

    def count_reserved(self, scope: str) -> float:
        return sum(entry.by_scope.get(scope, 0.0) for entry in self.reserved.values())


def name_scopes(run_id: str, stage: str, now: float) -> dict[str, str]:
    """Setting of the budget → what its line counts at this time.

    Args:
        run_id: of the DAG's run.
        stage: `<slice>/<stage>` or `<slice>/<stage>/<data type>`.
        now: seconds since the epoch.
    """
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    return {
        "per_run": f"run:{run_id}",
        "per_stage": f"stage:{run_id}/{stage}",
        "per_day": f"day:{day}",
        "per_month": f"month:{day[:7]}",
    }


def raise_spent(lake: str, spent: Mapping[str, float]) -> None:
    """Lifts scopes to what the ledger says was spent, where the meter says less."""
    now = time.time()
    with _open_accounts(lake).change() as accounts:
        for scope, money in spent.items():
            accounts.raise_to(scope, money, now)


class MoneyMeter:
    """One holder's way to the meter.

    Args:
        lake: root folder of the lake.
        budget: the lines.
        run_id, stage: as `name_scopes`.
        holder: who spends (`name_holder`).
        silence_s: seconds after which a silent holder's reservation counts as spent.
    """

    def __init__(
        self, lake: str, budget: BudgetSettings, run_id: str, stage: str, holder: str, silence_s: float
    ) -> None:
        self._state = _open_accounts(lake)
        self._lines = {name: line for name, line in budget if line is not None}
        self._run_id, self._stage, self._holder, self._silence_s = run_id, stage, holder, silence_s
        self._seen: dict[str, float] = {}

    def find_scopes(self) -> dict[str, str]:
        """Setting → scope as of now, for those that have a line."""
        scopes = name_scopes(self._run_id, self._stage, time.time())
        return {name: scopes[name] for name in self._lines}

    def exchange(
        self,
        reserved: Mapping[str, float],
        spent: Mapping[str, float],
        scopes: Mapping[str, str],
        bounds: Sequence[float],
    ) -> tuple[int, BudgetReached | None]:
        """Says what this holder has in flight and has spent since it last said so, and asks for more.

        Args:
            reserved: scope → bounds of what is in flight.
            spent: scope → money spent since the last exchange.
            scopes: as `find_scopes`, for what is wanted.
            bounds: most that each wanted call may cost; the first of them are granted.

        Returns:
            how many are granted; and, where what is spent leaves no room for the next, what to raise for it. None
            granted and nothing to raise: ask again when something has come home.

        Raises:
            LakeError: the file cannot be changed.
        """
        now = time.time()
        with self._state.change() as accounts:
            accounts.settle_for_the_gone(now)
            for scope, money in self._seen.items():
                accounts.raise_to(scope, money, now)
            for scope, money in spent.items():
                accounts.spend(scope, money, now)
            mine = dict(reserved)
            accounts.reserved[self._holder] = Reservation(mine, now + self._silence_s)
            granted, reached = self._grant(accounts, scopes, bounds)
            for scope in scopes.values():
                mine[scope] = mine.get(scope, 0.0) + sum(bounds[:granted])
            if not any(mine.values()):
                del accounts.reserved[self._holder]
        named = {*scopes.values(), *mine, *spent}
        self._seen = {scope: entry.spent for scope, entry in accounts.scopes.items() if scope in named}
        return granted, reached

    def _grant(
        self, accounts: Accounts, scopes: Mapping[str, str], bounds: Sequence[float]
    ) -> tuple[int, BudgetReached | None]:
        spent = {name: accounts.scopes.get(scope, Scope()).spent for name, scope in scopes.items()}
        taken = {name: spent[name] + accounts.count_reserved(scope) for name, scope in scopes.items()}
        for granted, bound in enumerate(bounds):
            for name, line in self._lines.items():
                if spent[name] + bound > line + ROUNDING:
                    return granted, BudgetReached(
                        f"The budget {name} is reached: {spent[name]:.6g} of {line:.6g} spent in {scopes[name]}, "
                        f"and one more call may cost {bound:.3g}",
                        wanted="calls within the budget",
                        cure=f"raise PERSONA_HUB_BUDGET__{name.upper()} and run the task again: answers so far are kept",
                    )
            if any(taken[name] + bound > line + ROUNDING for name, line in self._lines.items()):
                return granted, None
            taken = {name: money + bound for name, money in taken.items()}
        return len(bounds), None


def _open_accounts(lake: str) -> SharedState[Accounts]:
    return SharedState(Path(lake) / "_limits" / "money.state", Accounts, lambda _: Accounts())
