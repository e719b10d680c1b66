"""The money meter: no line is passed, whoever spends, and nothing is forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from persona_hub.errors import BudgetReached
from persona_hub.llm.budget import Accounts, MoneyMeter, name_scopes, raise_spent
from persona_hub.settings import BudgetSettings
from persona_hub.tables.shared_state import name_holder

STAGE = "S/00001/synthesize_samples/math"
SPEND = """
import sys
from persona_hub.llm.budget import MoneyMeter
from persona_hub.tables.shared_state import name_holder
from persona_hub.settings import BudgetSettings
lake, bound, cost = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
meter = MoneyMeter(lake, BudgetSettings(per_day=1.0), "r", "s", name_holder(), 60.0)
scopes, paid, spent, reached = meter.find_scopes(), 0, {}, None
while not reached:
    granted, reached = meter.exchange({}, spent, scopes, [bound] * 3)
    spent = {scope: granted * cost for scope in scopes.values()}
    paid += granted
meter.exchange({}, spent, scopes, [])
print(paid, flush=True)
"""
HOLD = """
import sys
from persona_hub.llm.budget import MoneyMeter
from persona_hub.tables.shared_state import name_holder
from persona_hub.settings import BudgetSettings
meter = MoneyMeter(sys.argv[1], BudgetSettings(per_run=1.0, per_day=5.0), "r", "s", name_holder(), 60.0)
print(meter.exchange({}, {}, meter.find_scopes(), [0.25] * 3)[0], flush=True)
sys.stdin.readline()
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def open_meter(lake: Path, run_id: str = "r", **lines: float) -> MoneyMeter:
    return MoneyMeter(str(lake), BudgetSettings(**lines), run_id, STAGE, name_holder(), 60.0)


def ask(meter: MoneyMeter, *bounds: float, **said: dict[str, float]) -> tuple[int, BudgetReached | None]:
    return meter.exchange(said.get("reserved", {}), said.get("spent", {}), meter.find_scopes(), bounds)


def test_names_what_each_line_counts() -> None:
    assert name_scopes("scheduled__1", STAGE, 1_767_225_599.9) == {
        "per_run": "run:scheduled__1",
        "per_stage": f"stage:scheduled__1/{STAGE}",
        "per_day": "day:2025-12-31",
        "per_month": "month:2025-12",
    }
    assert open_meter(Path("/tmp"), per_run=1).find_scopes() == {"per_run": "run:r"}


def test_grants_what_fits_then_waits_for_what_flies_then_says_that_it_is_spent(tmp_path: Path) -> None:
    meter = open_meter(tmp_path, per_run=1.0)
    assert ask(meter, *[0.3] * 5) == (3, None)
    # Nothing has come home yet, and it may cost less than its bound.
    assert ask(meter, 0.3, reserved={"run:r": 0.9}) == (0, None)
    # Three came home for a third of it.
    assert ask(meter, *[0.3] * 5, spent={"run:r": 0.3}) == (2, None)
    granted, reached = ask(meter, 0.3, spent={"run:r": 0.5})
    assert granted == 0
    assert str(reached) == (
        "The budget per_run is reached: 0.8 of 1 spent in run:r, and one more call may cost 0.3. Wanted: calls within "
        "the budget. To do: raise PERSONA_HUB_BUDGET__PER_RUN and run the task again: answers so far are kept."
    )
    assert not reached.retry_helps
    assert ask(meter, 0.2) == (1, None)  # up to the line itself


def test_each_line_counts_its_own(tmp_path: Path) -> None:
    one = open_meter(tmp_path, "one", per_run=1.0, per_stage=0.5, per_day=1.2)
    other = open_meter(tmp_path, "other", per_run=1.0, per_stage=0.5, per_day=1.2)
    paid = dict.fromkeys(one.find_scopes().values(), 0.4)
    assert "per_stage is reached: 0.4 of 0.5" in str(ask(one, 0.2, spent=paid)[1])
    paid = dict.fromkeys(other.find_scopes().values(), 0.5)
    assert ask(other, spent=paid) == (0, None)
    assert "per_stage is reached: 0.5 of 0.5" in str(ask(other, 0.4)[1])
    third = open_meter(tmp_path, "third", per_run=1.0, per_stage=0.5, per_day=1.2)
    assert "per_day is reached: 0.9 of 1.2" in str(ask(third, 0.4)[1])
    assert ask(third, 0.3) == (1, None)


def test_a_budget_of_nothing_lets_through_what_costs_nothing(tmp_path: Path) -> None:
    meter = open_meter(tmp_path, per_day=0.0)
    assert ask(meter, 0.0, 0.0) == (2, None)
    assert ask(meter, 1e-7)[1] is not None


def test_processes_side_by_side_spend_up_to_the_line_and_not_past_it(tmp_path: Path) -> None:
    spenders = [start(SPEND, tmp_path, 0.02, 0.003) for _ in range(2)]
    calls = sum(int(spender.communicate(timeout=30)[0]) for spender in spenders)
    assert 0.98 < calls * 0.003 <= 1.0


def test_what_a_killed_process_had_reserved_is_spent(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path)
    assert holder.stdout and holder.stdout.readline() == "3\n"
    meter = open_meter(tmp_path, per_run=1.0, per_day=5.0)
    assert ask(meter, 0.3) == (0, None)
    holder.kill()
    deadline = time.monotonic() + 10
    while (answer := ask(meter, 0.3)) == (0, None) and time.monotonic() < deadline:
        pass
    assert "per_run is reached: 0.75 of 1 spent in run:r" in str(answer[1])
    holder.communicate()


def test_a_stopped_holders_reservation_is_spent_when_its_time_is_up(tmp_path: Path) -> None:
    silent = MoneyMeter(str(tmp_path), BudgetSettings(per_run=1.0), "r", STAGE, name_holder(), silence_s=-1.0)
    assert ask(silent, 0.6) == (1, None)
    meter = open_meter(tmp_path, per_run=1.0)
    deadline = time.monotonic() + 10
    while (answer := ask(meter, 0.5)) == (0, None) and time.monotonic() < deadline:
        pass
    assert "0.6 of 1 spent" in str(answer[1])


def test_the_ledger_has_the_last_word_upwards_only(tmp_path: Path) -> None:
    meter = open_meter(tmp_path, per_run=1.0)
    raise_spent(str(tmp_path), {"run:r": 0.7, "day:2026-01-01": 3.0})
    assert "0.7 of 1 spent" in str(ask(meter, 0.4)[1])
    raise_spent(str(tmp_path), {"run:r": 0.1})
    assert "0.7 of 1 spent" in str(ask(meter, 0.4)[1])
    assert "0.8 of 1 spent" in str(ask(meter, 0.4, spent={"run:r": 0.1})[1])


def test_a_lost_file_comes_back_from_those_who_live(tmp_path: Path) -> None:
    meter, other = open_meter(tmp_path, per_run=1.0), open_meter(tmp_path, per_run=1.0)
    assert ask(meter, spent={"run:r": 0.4}) == (0, None)
    assert ask(other, 0.2, spent={"run:r": 0.3}) == (1, None)
    (tmp_path / "_limits" / "money.state").write_bytes(b"?")
    assert ask(other, reserved={"run:r": 0.2}) == (0, None)
    assert ask(meter, 0.2) == (0, None)  # 0.7 spent, 0.2 reserved
    assert ask(meter, 0.1) == (1, None)


def test_scopes_are_dropped_when_nobody_needs_them() -> None:
    accounts = Accounts()
    for scope in ("run:a", "stage:a/s", "day:2026-01-01", "month:2026-01"):
        accounts.spend(scope, 1.0, 1e9)
    for later, left in ((7_100, 4), (7_300, 2), (47 * 3_600, 2), (49 * 3_600, 1), (39 * 86_400, 1), (41 * 86_400, 0)):
        accounts.settle_for_the_gone(1e9 + later)
        assert len(accounts.scopes) == left
