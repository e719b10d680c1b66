"""What a calling stage of a slice will ask and cost, before it does: seconds, without Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from statistics import fmean
from typing import Any

import pyarrow.dataset as ds

from persona_hub.errors import BudgetReached
from persona_hub.llm.batch_store import find_open_keys
from persona_hub.llm.estimate import (
    Estimate,
    History,
    Interval,
    Look,
    Moments,
    estimate_calls,
    find_max_tokens,
    measure_between,
    weigh_request,
)
from persona_hub.llm.pricing import Price, find_price, load_settings_prices
from persona_hub.llm.spending import read_spent
from persona_hub.pending import count_questions, iter_pending, iter_questions
from persona_hub.settings import LlmSettings, Settings
from persona_hub.stages import CallingStage
from persona_hub.tables.scan import scan_newest, scan_table
from persona_hub.tables.silver import COMPLETIONS

LOOK_ROWS = 2_000  # putting a page's question together takes a millisecond
HISTORY_ROWS = 20_000
CALIBRATION_ROWS = 500
_ANSWER = ("slice", "prompt_hash", "prompt_tokens", "cached_tokens", "completion_tokens", "maybe_paid")


@dataclass(frozen=True)
class BudgetLine:
    """One line of the budget: its setting, its limit, and what was spent under it before this stage."""

    setting: str
    limit: float
    spent: float

    def is_passed(self, money: Interval) -> bool:
        return money.likely > 0 and self.spent + money.likely > self.limit

    def may_be_reached(self, money: Interval) -> bool:
        return self.spent + money.high > self.limit


@dataclass(frozen=True)
class Forecast:
    """An estimate of one stage of one slice, with the lines of the budget that it is held against."""

    slice: str
    stage: str
    model: str
    rows: int
    estimate: Estimate
    currency: str
    lines: tuple[BudgetLine, ...]
    made_at: datetime
    batch: bool

    def check_budget(self) -> None:
        """Raises BudgetReached where a line would be passed; says by how much, and which setting moves it."""
        money = self.estimate.money
        if money is None or not (passed := [line for line in self.lines if line.is_passed(money)]):
            return
        found = "; ".join(f"{line.spent:.4f} spent, {line.setting}={line.limit:g}" for line in passed)
        raise BudgetReached(
            f"{self.stage} of {self.slice} is estimated at {money.likely:.4f} {self.currency} "
            f"({money.low:.4f} to {money.high:.4f}) for {self.estimate.calls.likely:.0f} calls of {self.model}, "
            f"which would pass the budget: {found}",
            wanted="spent and estimated money together within each line",
            cure=f"raise {' and '.join(line.setting for line in passed)}, or let the stage ask less "
            "(personas_per_type, pages_per_slice, a cheaper model); then clear this task",
        )

    def list_near_lines(self) -> list[str]:
        """Settings of the lines that only a dear outcome would reach."""
        money = self.estimate.money
        return [line.setting for line in self.lines if money is not None and line.may_be_reached(money)]


def forecast_stage(settings: Settings, slice_key: str, stage: CallingStage, run_id: str, now: datetime) -> Forecast:
    """Looks at what is pending and at the ledger's history, and prices it.

    Args:
        settings: with the model's endpoint.
        slice_key: as in CC-MAIN-2026-30/00012.
        stage: who will ask.
        run_id: Airflow's, for the lines of the budget that count a run.
        now: with a time zone.

    Raises:
        SettingsError: a budget is set, and the model has no price.
    """
    endpoint = settings.llm.for_stage(stage.name, stage.data_type)[0]
    price = find_price(settings, endpoint.model)
    spent: dict[str, float] = {}
    if settings.budget.is_set:
        spent = read_spent(settings.lake, run_id, slice_key, stage.name, stage.data_type, now)
    batch = stage.name in settings.batch.stages
    look = look_at_questions(settings, slice_key, stage)
    return Forecast(
        slice=slice_key,
        stage=stage.label,
        model=endpoint.model,
        rows=look.rows,
        estimate=_estimate(settings, stage, look, price, batch),
        currency=load_settings_prices(settings).currency,
        lines=tuple(
            BudgetLine(f"PERSONA_HUB_BUDGET__{name.upper()}", limit, spent[name])
            for name, limit in settings.budget
            if limit is not None
        ),
        made_at=now,
        batch=batch,
    )


def price_batch_request(settings: Settings, slice_key: str, stage: CallingStage) -> float | None:
    """Likely money of one pending question in a batch; None where the model has no price.

    Raises:
        SettingsError: a budget is set, and the model has no price.
    """
    price = find_price(settings, settings.llm.for_stage(stage.name, stage.data_type)[0].model)
    if price is None:
        return None
    made = _estimate(settings, stage, look_at_questions(settings, slice_key, stage), price, batch=True)
    assert made.money
    return made.money.likely / made.calls.likely if made.calls.likely else 0.0


def _estimate(settings: Settings, stage: CallingStage, look: Look, price: Price | None, batch: bool) -> Estimate:
    endpoint = settings.llm.for_stage(stage.name, stage.data_type)[0]
    history = read_history(settings, stage, endpoint)
    return estimate_calls(look, history, endpoint.max_asks if endpoint.ask_again else 1, price, batch)


def look_at_questions(settings: Settings, slice_key: str, stage: CallingStage) -> Look:
    """All rows of a small slice, `LOOK_ROWS` of a large one. What lies in an open batch is bought, not pending."""
    rows = count_questions(settings, slice_key, stage)
    in_batches = find_open_keys(settings.lake, slice_key, stage.name, stage.data_type)
    chars, max_tokens = [], None
    for request in iter_pending(settings, slice_key, stage, at_most=LOOK_ROWS):
        if request.key in in_batches:
            continue
        chars.append(weigh_request(request))
        max_tokens = find_max_tokens(request)
    return Look(rows, min(rows, LOOK_ROWS), len(chars), Moments.of(chars), max_tokens)


def read_history(settings: Settings, stage: CallingStage, endpoint: LlmSettings) -> History:
    """The newest answers to the like: with today's prompt where there are any, else with whatever was asked."""
    asked = (
        (ds.field("stage") == stage.name)
        & (ds.field("data_type") == stage.data_type)
        & (ds.field("model") == endpoint.model)
    )
    batches = scan_newest(settings.lake, COMPLETIONS, "answered_at", _ANSWER, asked)
    rows = list(islice((row for batch in batches for row in batch.to_pylist()), HISTORY_ROWS))
    if not rows:
        return History()
    today = stage.load_prompt(endpoint).hash
    same_prompt = any(row["prompt_hash"] == today for row in rows)
    if same_prompt:
        rows = [row for row in rows if row["prompt_hash"] == today]
    [(most_of, _)] = Counter(row["slice"] for row in rows).most_common(1)
    ratios, questions, asked_anew = _put_together_again(settings, most_of, stage, endpoint, asked)
    told = [row for row in rows if row["prompt_tokens"] is not None]
    return History(
        same_prompt=same_prompt,
        completion_tokens=Moments.of(r["completion_tokens"] for r in rows if r["completion_tokens"] is not None),
        between=measure_between(_average_slices(rows)),
        tokens_per_char=Moments.of(ratios),
        cached_share=sum(r["cached_tokens"] or 0 for r in told) / max(1, sum(r["prompt_tokens"] for r in told)),
        answers=len(rows),
        maybe_paid=sum(row["maybe_paid"] for row in rows),
        questions=questions,
        asked_anew=asked_anew,
    )


def _put_together_again(
    settings: Settings, slice_key: str, stage: CallingStage, endpoint: LlmSettings, asked: ds.Expression
) -> tuple[list[float], int, int]:
    """The ledger keeps no prompts: some of a slice's are built once more, and found by their keys.

    Returns:
        prompt tokens a weighed character of each; questions found, and further askings of them.
    """
    in_slice = asked & (ds.field("slice") == slice_key)
    known: dict[str, int | None] = {}
    for batch in scan_table(settings.lake, COMPLETIONS, ("completion_key", "prompt_tokens"), in_slice):
        known.update(zip(batch["completion_key"].to_pylist(), batch["prompt_tokens"].to_pylist(), strict=True))
    ratios, questions, asked_anew = [], 0, 0
    for request, *_ in iter_questions(settings, slice_key, stage, CALIBRATION_ROWS):
        if request.key not in known:
            continue
        questions += 1
        if tokens := known[request.key]:
            ratios.append(tokens / weigh_request(request))
        for _ in range(1, endpoint.max_asks):
            request = request.ask_anew()
            asked_anew += request.key in known
    return ratios, questions, asked_anew


def _average_slices(rows: Iterable[dict[str, Any]]) -> list[float]:
    """Mean completion tokens of each slice that has enough answers for one."""
    by_slice: dict[str, list[int]] = {}
    for row in rows:
        if row["completion_tokens"] is not None:
            by_slice.setdefault(row["slice"], []).append(row["completion_tokens"])
    return [fmean(tokens) for tokens in by_slice.values() if len(tokens) >= 20]


def format_forecast(forecast: Forecast) -> list[str]:
    """The estimate as lines for a log."""
    lines = [
        f"{forecast.stage} of {forecast.slice}: {forecast.rows} rows, model {forecast.model}"
        + (", in batches" if forecast.batch else ""),
        f"{'':<20} {'likely':>14} {'low (80 %)':>14} {'high':>14}",
    ]
    for name, figure, decimals in iter_figures(forecast):
        shown = figure and [f"{value:,.{decimals}f}" for value in (figure.likely, figure.low, figure.high)]
        lines.append(f"{name:<20} " + (" ".join(f"{value:>14}" for value in shown) if shown else f"{'unpriced':>14}"))
    lines += [f"budget {one.setting}={one.limit:g}: {one.spent:.4f} spent" for one in forecast.lines]
    return [*lines, *forecast.estimate.basis]


def iter_figures(forecast: Forecast) -> list[tuple[str, Interval | None, int]]:
    """Name, figure and shown decimals of each row of the table."""
    made = forecast.estimate
    return [
        ("pending questions", made.pending, 0),
        ("calls", made.calls, 0),
        ("prompt tokens", made.prompt_tokens, 0),
        ("completion tokens", made.completion_tokens, 0),
        (f"money ({forecast.currency})", made.money, 4),
    ]
