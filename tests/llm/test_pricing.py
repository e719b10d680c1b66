"""Prices: the file, whose price a model has, what an answer costs and may cost."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from persona_hub.errors import SettingsError
from persona_hub.llm.pricing import (
    UNBOUNDED_ANSWER,
    Price,
    Prices,
    bound_cost,
    bound_tokens,
    compute_cost,
    find_price,
    load_prices,
    load_settings_prices,
)
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import BudgetSettings, Settings

ANSWER = Completion("k", "A baker", "stop", 1_000, 400, 100, 1.0, 1)
FILE = """
currency = "EUR"
[models."gpt-x"]
input = 1.25
cached = 0.125
output = 10
batch_discount = 0.5
[models."gpt-x-mini"]
input = 0.1
output = 0.4
"""


@pytest.fixture
def price_file(tmp_path: Path) -> Path:
    file = tmp_path / "prices.toml"
    file.write_text(FILE)
    return file


def test_reads_the_file(price_file: Path) -> None:
    large, small = Price(1.25, 10.0, 0.125, 0.5), Price(0.1, 0.4)
    assert load_prices(str(price_file), required=True) == Prices("EUR", {"gpt-x": large, "gpt-x-mini": small})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-x", "gpt-x"),
        ("gpt-x-2026-01-01", "gpt-x"),
        ("gpt-x-0613", "gpt-x"),
        ("gpt-x-mini", "gpt-x-mini"),
        ("gpt-x-mini-20260101", "gpt-x-mini"),
        ("gpt-x-mini@20260101", "gpt-x-mini"),
        ("gpt-x-large", None),
        ("gpt-x2026-01-01", None),
        ("gpt-x-2026-01-01-mini", None),
        ("gpt", None),
        ("my-gpt-x", None),
    ],
)
def test_a_dated_name_has_the_price_of_the_longest_name_that_fits(
    price_file: Path, model: str, name: str | None
) -> None:
    prices = load_prices(str(price_file), required=True)
    assert prices.find(model) == (prices.models[name] if name else None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[models."a"]\ninput = 1\noutput = 2\nouput = 3', "models.a.ouput"),
        ('[models."a"]\ninput = 1', "models.a.output"),
        ('[models."a"]\ninput = -1\noutput = 2', "models.a.input"),
        ('[models."a"]\ninput = 1\noutput = nan', "models.a.output"),
        ('[models."a"]\ninput = "free"\noutput = 2', "models.a.input"),
        ('[models."a"]\ninput = 1\noutput = 2\nbatch_discount = 50', "models.a.batch_discount"),
        ("[model]\ninput = 1", "model:"),
        ("models = [", "Invalid value"),
        ("\x00", "Invalid statement"),
    ],
)
def test_a_bad_file_is_refused_by_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_prices(str(file), required=False)
    assert f"Bad price file {file}: " in str(raised.value)
    assert told in str(raised.value)
    assert not raised.value.retry_helps


def test_a_named_file_must_be_there_the_default_need_not(tmp_path: Path, price_file: Path) -> None:
    assert load_settings_prices(Settings(home=tmp_path / "empty")) == Prices()
    assert find_price(Settings(home=tmp_path), "gpt-x-mini") == Price(0.1, 0.4)
    assert find_price(Settings(home=tmp_path / "empty", prices=str(price_file)), "gpt-x-mini") == Price(0.1, 0.4)
    with pytest.raises(SettingsError, match="gone.toml cannot be read .No such file or directory."):
        find_price(Settings(home=tmp_path, prices=str(tmp_path / "gone.toml")), "gpt-x")
    with pytest.raises(SettingsError, match="cannot be read .Is a directory."):
        load_prices(str(tmp_path), required=False)


def test_a_budget_needs_a_price(tmp_path: Path, price_file: Path) -> None:
    settings = Settings(home=tmp_path, budget=BudgetSettings(per_day=5))
    assert find_price(settings, "gpt-x-mini") == Price(0.1, 0.4)
    with pytest.raises(SettingsError) as raised:
        find_price(settings, "llama")
    assert "the model llama has no price" in str(raised.value)
    assert f'[models."llama"] with input and output in {price_file}' in str(raised.value)


def test_what_an_answer_costs() -> None:
    assert compute_cost(ANSWER, Price(1, 10)) == pytest.approx(0.002)
    assert compute_cost(ANSWER, Price(1, 10, cached=0.1)) == pytest.approx(0.00164)
    assert compute_cost(ANSWER, Price(1, 10, cached=0.1, batch_discount=0.5), batch=True) == pytest.approx(0.00082)
    assert compute_cost(ANSWER, Price(1, 10, batch_discount=0.5)) == pytest.approx(0.002)
    # Thoughts are part of the completion tokens: not counted twice.
    assert compute_cost(replace(ANSWER, reasoning_tokens=90), Price(1, 10)) == pytest.approx(0.002)
    # More cached than asked is a server's slip, and no credit.
    assert compute_cost(replace(ANSWER, cached_tokens=2_000), Price(1, 10, cached=0)) == pytest.approx(0.001)
    assert compute_cost(ANSWER, Price(0, 0)) == 0.0


def test_what_is_not_known_is_none_and_never_0() -> None:
    assert compute_cost(ANSWER, None) is None
    assert compute_cost(replace(ANSWER, prompt_tokens=None), Price(1, 10)) is None
    assert compute_cost(replace(ANSWER, completion_tokens=None), Price(0, 0)) is None
    assert compute_cost(replace(ANSWER, cached_tokens=None), Price(1, 10, cached=0.1)) == pytest.approx(0.002)


def test_the_bound_counts_bytes_and_the_longest_answer() -> None:
    request = Request("m", [{"role": "user", "content": "Grüße 你好 \ud800"}], {"max_tokens": 50})
    assert bound_tokens(request) == (64 + 8 + 7 + 1 + 6 + 1 + 3, 50)
    assert bound_tokens(replace(request, parameters={"max_completion_tokens": 80, "max_tokens": None}))[1] == 80
    assert bound_tokens(replace(request, parameters={}))[1] == UNBOUNDED_ANSWER
    assert bound_tokens(replace(request, schema={"type": "object"}))[0] == 90 + len('{"type": "object"}')
    assert bound_cost(request, Price(2, 10)) == pytest.approx((90 * 2 + 50 * 10) / 1e6)
    # Some providers charge more for what they write to the cache.
    assert bound_cost(request, Price(2, 10, cached=3)) == pytest.approx((90 * 3 + 50 * 10) / 1e6)


def test_prices_load_neither_client_nor_spark() -> None:
    code = "import sys, persona_hub.llm.pricing; print(sorted({'openai', 'pyspark', 'airflow'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
