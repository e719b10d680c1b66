"""Estimates: figures by hand, and intervals that hold the truth as often as they say."""

from __future__ import annotations

import random

import pytest

from persona_hub.llm.estimate import (
    UNKNOWN_MAX_TOKENS,
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
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Request

PRICE = Price(input=2.0, output=10.0, cached=0.5, batch_discount=0.5)
SEEN = History(
    same_prompt=True,
    completion_tokens=Moments(1_000, 50.0, 0.0),
    between=None,
    tokens_per_char=Moments(400, 0.25, 0.0),
    answers=1_000,
)


def look(rows: int = 100, looked_at: int = 100, pending: int = 100, max_tokens: int | None = 200) -> Look:
    return Look(rows, looked_at, pending, Moments(pending, 400.0, 0.0), max_tokens)


def shown(interval: Interval | None) -> tuple[float, float, float]:
    assert interval is not None
    return round(interval.low, 4), round(interval.likely, 4), round(interval.high, 4)


def test_with_history_by_hand() -> None:
    made = estimate_calls(look(), SEEN, 1, PRICE)
    assert shown(made.pending) == (100, 100, 100)
    # No send was lost in 1,000: at most 0.16 % are, by Wilson's interval.
    assert shown(made.calls) == (100, 100, 100.164)
    assert made.prompt_tokens.likely == 100 * 400 * 0.25
    assert made.completion_tokens.likely == 100 * 50
    # Slices differ by a tenth: 1.2816 of it each way, whatever the number of calls.
    assert shown(made.completion_tokens)[::2] == (pytest.approx(4_359.2, abs=0.1), pytest.approx(5_640.8, abs=0.2))
    # 10,000 × 2 and 5,000 × 10 per million.
    assert made.money is not None and made.money.likely == pytest.approx(0.07)
    assert made.money.low < 0.07 < made.money.high
    assert made.basis == (
        "Prompt tokens: 4.00 weighed characters each, as in 400 calls.",
        "Completion tokens: 50 ± 0 in 1000 answers to this prompt.",
    )


def test_without_history_the_limit_bounds_the_answers_and_the_interval_is_wide() -> None:
    made = estimate_calls(look(), History(), 1, PRICE)
    assert shown(made.calls) == (100, 100, 100)
    assert shown(made.completion_tokens) == (2_000, 10_000, 20_000)
    low, likely, high = shown(made.prompt_tokens)
    assert (low, likely, high) == pytest.approx((8_000, 11_111.1, 18_181.8), abs=0.1)
    assert made.basis[1] == "Completion tokens: no such answer in the ledger yet; half of max_tokens of 200 assumed."
    unbounded = estimate_calls(look(max_tokens=None), History(), 1, None)
    assert unbounded.completion_tokens.high == 100 * UNKNOWN_MAX_TOKENS


def test_money_is_null_without_a_price_and_zero_for_a_free_model() -> None:
    assert estimate_calls(look(), SEEN, 1, None).money is None
    assert shown(estimate_calls(look(), SEEN, 1, Price(0.0, 0.0)).money) == (0, 0, 0)


def test_cache_and_batch_make_it_cheaper_but_no_bound_trusts_in_the_cache() -> None:
    plain, cached = SEEN, History(**{**vars(SEEN), "cached_share": 0.8})
    asked, lucky, batch = (
        estimate_calls(look(), history, 1, PRICE, batch).money
        for history, batch in ((plain, False), (cached, False), (plain, True))
    )
    assert asked and lucky and batch
    # 10,000 × (0.2 × 2 + 0.8 × 0.5) and 5,000 × 10 per million.
    assert lucky.likely == pytest.approx(0.058)
    assert lucky.high == asked.high
    assert shown(batch) == pytest.approx(tuple(value / 2 for value in shown(asked)), abs=1e-4)
    full_price = estimate_calls(look(), cached, 1, Price(input=2.0, output=10.0)).money
    assert full_price == asked


@pytest.mark.parametrize("pending", [0, 60, 2_000])
def test_of_a_large_slice_a_part_is_looked_at(pending: int) -> None:
    made = estimate_calls(look(rows=100_000, looked_at=2_000, pending=pending), SEEN, 1, None)
    assert made.pending.likely == pytest.approx(pending * 50)
    assert made.pending.low <= made.pending.likely <= made.pending.high <= 100_000
    assert made.pending.low >= pending
    assert made.basis[0] == "2000 of 100000 rows were looked at, chosen by hash."
    if pending == 60:
        assert 2_500 < made.pending.low < 3_000 < made.pending.high < 3_600


def test_asking_anew_is_counted_from_history_and_never_beyond_the_limit() -> None:
    never = estimate_calls(look(), SEEN, 1, None)
    tenth = estimate_calls(look(), History(**{**vars(SEEN), "questions": 200, "asked_anew": 40}), 3, None)
    unknown = estimate_calls(look(), SEEN, 3, None)
    assert never.calls.likely == 100
    assert tenth.calls.likely == pytest.approx(120)
    assert unknown.calls.high <= 100 * 3.01


def test_paid_without_an_answer_is_a_call_too() -> None:
    made = estimate_calls(look(), History(**{**vars(SEEN), "maybe_paid": 50}), 1, None)
    assert made.calls.likely == pytest.approx(105)


def test_nothing_pending_costs_nothing() -> None:
    made = estimate_calls(look(pending=0), History(), 2, PRICE)
    assert shown(made.money) == shown(made.calls) == shown(made.prompt_tokens) == (0, 0, 0)
    empty = estimate_calls(Look(0, 0, 0, Moments.of([]), None), History(), 1, PRICE)
    assert shown(empty.money) == (0, 0, 0)


def test_another_prompt_and_slices_that_differ_widen_the_interval() -> None:
    def width(**changes: object) -> float:
        made = estimate_calls(look(max_tokens=None), History(**{**vars(SEEN), **changes}), 1, None)
        return made.completion_tokens.high - made.completion_tokens.low

    assert width(between=0.02) < width() < width(between=0.3) < width(same_prompt=False)


def test_four_of_five_truths_lie_within() -> None:
    """Slices differ by a tenth, answers among themselves by two fifths; 300 times estimated and then asked."""
    rng, held = random.Random(4), {"prompt": 0, "completion": 0}

    def ask(count: int, shift: float) -> list[tuple[float, float, float]]:
        chars = [rng.uniform(200, 1_500) for _ in range(count)]
        return [(c, c * 0.25 * shift * rng.uniform(0.9, 1.1), rng.gauss(80, 32) * shift) for c in chars]

    for _ in range(300):
        slices = [ask(300, rng.gauss(1, 0.1)) for _ in range(8)]
        answers = [answer for one in slices for answer in one]
        history = History(
            same_prompt=True,
            completion_tokens=Moments.of(tokens for _, _, tokens in answers),
            between=measure_between([Moments.of(t for *_, t in one).mean for one in slices]),
            tokens_per_char=Moments.of(tokens / chars for chars, tokens, _ in answers),
            answers=len(answers),
        )
        truth = ask(200, rng.gauss(1, 0.1))
        seen = Look(200, 200, 200, Moments.of(chars for chars, *_ in truth), None)
        made: Estimate = estimate_calls(seen, history, 1, None)
        held["prompt"] += made.prompt_tokens.low <= sum(t for _, t, _ in truth) <= made.prompt_tokens.high
        held["completion"] += made.completion_tokens.low <= sum(t for *_, t in truth) <= made.completion_tokens.high
    assert 0.72 < held["prompt"] / 300 < 0.9
    assert 0.72 < held["completion"] / 300 < 0.9


def test_how_far_off_one_more_slice_may_be() -> None:
    assert measure_between([50.0, 60.0]) is None
    assert measure_between([0.0, 0.0, 0.0]) is None
    assert measure_between([60.0] * 5) == 0.0
    # stdev 10, mean 60, √(4/3) and 1 + 2.6425 / 8.
    assert measure_between([50.0, 60.0, 70.0]) == pytest.approx(10 / 60 * 1.1547 * 1.3303, abs=1e-4)


def test_a_requests_weight_and_limit() -> None:
    request = Request("m", [{"role": "system", "content": "abcd"}, {"role": "user", "content": "雨"}])
    assert weigh_request(request) == 4 + 16 + 4 + 16
    assert weigh_request(Request("m", [], schema={"a": 1})) == len('{"a": 1}')
    assert find_max_tokens(request) is None
    assert find_max_tokens(Request("m", [], {"max_tokens": 70})) == 70
    assert find_max_tokens(Request("m", [], {"max_tokens": None, "max_completion_tokens": 90})) == 90
