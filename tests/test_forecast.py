"""Forecasts of a stage from real Delta tables: what is pending, what history says, what the budget allows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from paid_lake import make_answer, write_answers, write_personas

from persona_hub import forecast
from persona_hub.errors import BudgetReached, SettingsError
from persona_hub.forecast import Forecast, forecast_stage, format_forecast, read_history
from persona_hub.llm.estimate import Interval, weigh_request
from persona_hub.llm.pricing import Price, compute_cost
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import Settings, load_settings
from persona_hub.stages import SYNTHESIZE, get_stage

NOW = datetime(2026, 11, 22, 20, tzinfo=UTC)
SLICE = "CC-MAIN-2026-30/00009"
EARLIER = tuple(f"CC-MAIN-2026-30/{number:05d}" for number in (1, 2, 3, 4))
MATH = get_stage(SYNTHESIZE, "math")
PRICES = '[models."smollm2-135m-instruct"]\ninput = 2.0\noutput = 10.0\nbatch_discount = 0.5\n'
PRICE = Price(2.0, 10.0)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    (tmp_path / "prices.toml").write_text('currency = "EUR"\n' + PRICES)

    def make(**variables: str) -> Settings:
        ours = {f"PERSONA_HUB_{name}": value for name, value in variables.items()}
        return load_settings({"PERSONA_HUB_HOME": str(tmp_path)} | ours)

    return make


class Endpoint:
    """Answers as a model of its own tokenizer would: 4.4 weighed characters a token, answers of 60 tokens or so."""

    def __init__(self) -> None:
        self.rng = random.Random(11)

    def answer(self, request: Request, slice_key: str, **changes: Any) -> dict[str, Any]:
        tokens = {
            "prompt_tokens": round(weigh_request(request) / self.rng.uniform(4.2, 4.6)),
            "completion_tokens": min(110, max(1, round(self.rng.gauss(60, 15)))),
        }
        completion = Completion(request.key, "t", "stop", cached_tokens=0, latency_s=1.0, attempts=1, **tokens)
        money = compute_cost(completion, PRICE)
        prompt_hash = MATH.load_prompt(load_settings({}).llm).hash
        return make_answer(request, slice_key, **tokens, money=money, prompt_hash=prompt_hash) | changes


def buy(settings: Settings, slice_key: str, endpoint: Endpoint, count: int, **changes: Any) -> list[dict[str, Any]]:
    personas = write_personas(settings, slice_key, range(count))
    rows = [endpoint.answer(MATH.build(row["persona"], settings.llm), slice_key, **changes) for row in personas]
    write_answers(settings, rows)
    return rows


def foresee(settings: Settings) -> Forecast:
    return forecast_stage(settings, SLICE, MATH, "run 9", NOW)


def test_an_estimate_from_history_holds_what_it_then_costs(load: Callable[..., Settings]) -> None:
    settings, endpoint = load(), Endpoint()
    for slice_key in EARLIER:
        buy(settings, slice_key, endpoint, 60)
    write_personas(settings, SLICE, range(200))
    made = foresee(settings).estimate
    truth = buy(settings, SLICE, endpoint, 200)
    assert made.pending == Interval(200, 200, 200)
    for figure, name in ((made.prompt_tokens, "prompt_tokens"), (made.completion_tokens, "completion_tokens")):
        cost = sum(row[name] for row in truth)
        assert figure.low <= cost <= figure.high
        assert figure.likely == pytest.approx(cost, rel=0.1)
    money = sum(row["money"] for row in truth)
    assert made.money is not None and made.money.likely == pytest.approx(money, rel=0.1)
    assert made.basis[0] == "Prompt tokens: 4.40 weighed characters each, as in 60 calls."
    assert "in 240 answers to this prompt." in made.basis[1]
    # All are answered now: nothing is left to pay.
    assert foresee(settings).estimate.money == Interval(0, 0, 0)


def test_only_what_is_pending_is_estimated(load: Callable[..., Settings]) -> None:
    settings = load()
    rows = write_personas(settings, SLICE, range(30))
    write_answers(settings, [Endpoint().answer(MATH.build(row["persona"], settings.llm), SLICE) for row in rows[:18]])
    made = foresee(settings)
    assert (made.rows, made.estimate.pending) == (30, Interval(12, 12, 12))


def test_of_a_large_slice_a_part_is_looked_at(load: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "LOOK_ROWS", 100)
    settings = load()
    rows = write_personas(settings, SLICE, range(1_000))
    write_answers(settings, [Endpoint().answer(MATH.build(row["persona"], settings.llm), SLICE) for row in rows[::4]])
    made = foresee(settings)
    assert made.rows == 1_000
    assert made.estimate.pending.low <= 750 <= made.estimate.pending.high
    assert made.estimate.pending.likely == pytest.approx(750, abs=100)
    assert made.estimate.basis[0] == "100 of 1000 rows were looked at, chosen by hash."


def test_history_is_of_the_same_stage_type_and_model_newest_first(
    load: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, endpoint = load(), Endpoint()
    for day, slice_key in enumerate(EARLIER):
        at = NOW - timedelta(days=day)
        buy(settings, slice_key, endpoint, 30, answered_at=at, completion_tokens=10 * (day + 1), cached_tokens=5)
    foreign = {"model": "large"}, {"data_type": "logic"}, {"stage": "extract_candidates"}
    for number, changes in enumerate(foreign):
        write_answers(
            settings, [make_answer(Request("m", [], sample=number), SLICE, completion_tokens=9_999, **changes)]
        )
    whole = read_history(settings, MATH, settings.llm)
    assert (whole.answers, whole.completion_tokens.mean, whole.same_prompt) == (120, 25.0, True)
    assert 0.01 < whole.cached_share < 0.1
    monkeypatch.setattr(forecast, "HISTORY_ROWS", 60)
    newest = read_history(settings, MATH, settings.llm)
    assert (newest.answers, newest.completion_tokens.mean) == (60, 15.0)


def test_answers_to_another_prompt_are_better_than_none(load: Callable[..., Settings]) -> None:
    settings, endpoint = load(), Endpoint()
    buy(settings, EARLIER[0], endpoint, 30, prompt_hash="old")
    assert not read_history(settings, MATH, settings.llm).same_prompt
    buy(settings, EARLIER[1], endpoint, 5)
    mixed = read_history(settings, MATH, settings.llm)
    assert (mixed.same_prompt, mixed.answers) == (True, 5)


def test_failures_and_answers_without_usage_break_nothing(load: Callable[..., Settings]) -> None:
    settings = load()
    unknown = {"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None, "money": None}
    failure = unknown | {"text": None, "error_class": "timeout", "error": "x", "maybe_paid": 1}
    buy(settings, EARLIER[0], Endpoint(), 10, **failure)
    buy(settings, EARLIER[1], Endpoint(), 10, **unknown)
    write_personas(settings, SLICE, range(10))
    history = read_history(settings, MATH, settings.llm)
    assert (history.answers, history.maybe_paid, history.completion_tokens.count) == (20, 10, 0)
    made = foresee(settings).estimate
    assert made.calls.likely == pytest.approx(15)
    assert made.money is not None and made.money.low > 0


def test_further_askings_are_learned(load: Callable[..., Settings]) -> None:
    settings = load(LLM__MAX_ASKS="3", LLM__ASK_AGAIN='["unparsable"]')
    endpoint = Endpoint()
    bought = write_personas(settings, EARLIER[0], range(40))
    first = [MATH.build(row["persona"], settings.llm) for row in bought]
    again = [request.ask_anew() for request in first[:8]] + [first[0].ask_anew().ask_anew()]
    write_answers(settings, [endpoint.answer(request, EARLIER[0]) for request in (*first, *again)])
    history = read_history(settings, MATH, settings.llm)
    assert (history.questions, history.asked_anew) == (40, 9)
    write_personas(settings, SLICE, range(100))
    assert foresee(settings).estimate.calls.likely == pytest.approx(100 * (1 + 9 / 40))


def test_the_budget_is_held_against_what_was_spent(load: Callable[..., Settings]) -> None:
    settings = load(BUDGET__PER_RUN="1", BUDGET__PER_DAY="0.05")
    write_personas(settings, SLICE, range(10))
    write_answers(
        settings,
        [
            make_answer(Request("m", [], sample=1), SLICE, money=0.049, answered_at=NOW),
            make_answer(Request("m", [], sample=2), SLICE, money=0.5, answered_at=NOW - timedelta(days=1)),
        ],
    )
    made = foresee(settings)
    assert [(line.setting, line.limit, line.spent) for line in made.lines] == [
        ("PERSONA_HUB_BUDGET__PER_RUN", 1.0, 0.0),
        ("PERSONA_HUB_BUDGET__PER_DAY", 0.05, 0.049),
    ]
    assert made.estimate.money is not None and 0.001 < made.estimate.money.likely < 0.05
    with pytest.raises(BudgetReached) as raised:
        made.check_budget()
    told = str(raised.value)
    assert f"estimated at {made.estimate.money.likely:.4f} EUR" in told and "for 10 calls" in told
    assert "0.0490 spent, PERSONA_HUB_BUDGET__PER_DAY=0.05" in told and "raise PERSONA_HUB_BUDGET__PER_DAY," in told
    assert "PER_RUN" not in told
    assert not raised.value.retry_helps
    foresee(load(BUDGET__PER_RUN="1", BUDGET__PER_DAY="0.2")).check_budget()


def test_nobody_reads_what_was_spent_where_no_budget_is_set(load: Callable[..., Settings]) -> None:
    write_personas(load(), SLICE, range(3))
    spool = Path(load().lake, "silver/_spool/other/extract_candidates/w.jsonl")
    spool.parent.mkdir(parents=True)
    spool.write_text("no answer\n")  # whoever reads it puts it aside
    assert foresee(load()).lines == ()
    assert not spool.with_suffix(".broken").exists()
    foresee(load(BUDGET__PER_DAY="1"))
    assert spool.with_suffix(".broken").exists()


def test_a_line_that_only_a_dear_outcome_reaches_is_named(load: Callable[..., Settings]) -> None:
    write_personas(load(), SLICE, range(10))
    money = foresee(load()).estimate.money
    assert money is not None
    made = foresee(load(BUDGET__PER_DAY=str((money.likely + money.high) / 2), BUDGET__PER_MONTH=str(2 * money.high)))
    made.check_budget()
    assert made.list_near_lines() == ["PERSONA_HUB_BUDGET__PER_DAY"]


def test_a_budget_passed_before_stops_nothing_that_costs_nothing(load: Callable[..., Settings]) -> None:
    settings = load(BUDGET__PER_DAY="0.01")
    write_answers(settings, [make_answer(Request("m", [], sample=1), SLICE, money=5.0, answered_at=NOW)])
    foresee(settings).check_budget()


def test_a_budget_without_a_price_is_refused(load: Callable[..., Settings]) -> None:
    write_personas(load(), SLICE, range(3))
    assert foresee(load(LLM__MODEL="unpriced")).estimate.money is None
    with pytest.raises(SettingsError, match="unpriced has no price"):
        foresee(load(LLM__MODEL="unpriced", BUDGET__PER_DAY="1"))


def test_batches_are_half_the_price_and_each_type_has_its_own_model(load: Callable[..., Settings]) -> None:
    write_personas(load(), SLICE, range(10))
    plain, batch = foresee(load()), foresee(load(BATCH__STAGES='["synthesize_samples"]'))
    assert plain.estimate.money and batch.estimate.money
    assert batch.estimate.money.likely == plain.estimate.money.likely / 2
    strong = foresee(load(LLM__STAGES=json.dumps({"synthesize_samples/math": {"model": "strong"}})))
    assert (strong.model, strong.estimate.money) == ("strong", None)


def test_lines_for_the_log(load: Callable[..., Settings]) -> None:
    settings = load(BUDGET__PER_DAY="3")
    write_personas(settings, SLICE, range(10))
    lines = format_forecast(foresee(settings))
    assert lines[0] == f"synthesize_samples/math of {SLICE}: 10 rows, model smollm2-135m-instruct"
    assert [line.split()[0] for line in lines[1:7]] == ["likely", "pending", "calls", "prompt", "completion", "money"]
    assert lines[2].split() == ["pending", "questions", "10", "10", "10"]
    assert lines[6].startswith("money (EUR)")
    assert lines[7] == "budget PERSONA_HUB_BUDGET__PER_DAY=3: 0.0000 spent"
    unpriced = format_forecast(foresee(load(LLM__MODEL="unpriced")))
    assert unpriced[6].split() == ["money", "(EUR)", "unpriced"]
