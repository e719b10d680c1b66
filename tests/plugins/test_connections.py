from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from persona_hub.settings import LlmSettings
from persona_hub_airflow.connections import get_connection, list_secrets, load_model_settings, read_model_environment

MAIN, CHEAP = "sk-main-0123456789", "sk-cheap-9876543210"


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Sets connections as Airflow reads them from its environment."""
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path))

    def set_connection(conn_id: str, **values: Any) -> None:
        values = {"conn_type": "generic", "host": "https://main.example/v1"} | values
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(values))

    set_connection("persona_hub_llm", password=MAIN)
    set_connection(
        "cheap_llm",
        host="http://cheap.example/v1",
        password=CHEAP,
        extra={"model": "small", "window": 8, "parameters": {"top_p": 0.5}, "stages": {"x": {}}, "fallback": [{}]},
    )
    return set_connection


def get_endpoint(llm: LlmSettings) -> tuple[str | None, str | None, str, int]:
    key = llm.api_key.get_secret_value() if llm.api_key else None
    return llm.base_url, key, llm.model, llm.window


def test_extra_becomes_settings_nested_values_too(connections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_HUB_LLM__TIMEOUT_S", "7")
    extra = {
        "Model": "large",
        "parameters": {"temperature": 0},
        "features": ["seed"],
        "ask_again": '["unparsable"]',
        "max_in_flight": 12,
        "tokens_per_minute": None,
        "stages": {"extract_candidates": {"window": 3}},
    }
    connections("persona_hub_llm", password=MAIN, extra=extra)
    assert read_model_environment(get_connection("persona_hub_llm")) == {
        "PERSONA_HUB_LLM__BASE_URL": "https://main.example/v1",
        "PERSONA_HUB_LLM__API_KEY": MAIN,
        "PERSONA_HUB_LLM__MODEL": "large",
        "PERSONA_HUB_LLM__PARAMETERS": '{"temperature": 0}',
        "PERSONA_HUB_LLM__FEATURES": '["seed"]',
        "PERSONA_HUB_LLM__ASK_AGAIN": '["unparsable"]',
        "PERSONA_HUB_LLM__MAX_IN_FLIGHT": "12",
        "PERSONA_HUB_LLM__STAGES": '{"extract_candidates": {"window": 3}}',
    }
    llm = load_model_settings().llm
    assert (llm.features, llm.ask_again, llm.timeout_s) == (("seed",), ("unparsable",), 7.0)
    (extract,) = llm.for_stage("extract_candidates")
    assert get_endpoint(extract) == ("https://main.example/v1", MAIN, "large", 3)


@pytest.mark.parametrize("spell", [lambda value: value, json.dumps])
def test_stages_and_fallbacks_name_other_connections(connections: Any, spell: Any) -> None:
    """The form of Airflow's UI may keep a nested value as text."""
    connections("open_llm", host="http://user:pass%21word@open.example/v1", extra={"model": "open"})
    stages = {
        "extract_candidates": {"connection": "cheap_llm", "window": 16, "fallback": [{"connection": "open_llm"}]},
        "synthesize_samples/math": {"model": "larger"},
    }
    extra = {"model": "large", "stages": spell(stages), "fallback": spell([{"connection": "open_llm", "window": 2}])}
    connections("persona_hub_llm", password=MAIN, extra=extra)
    llm = load_model_settings().llm
    main, open_ = ("https://main.example/v1", MAIN), ("http://user:pass%21word@open.example/v1", None)
    extract = llm.for_stage("extract_candidates")
    assert [get_endpoint(one) for one in extract] == [
        ("http://cheap.example/v1", CHEAP, "small", 16),
        (*open_, "open", 16),
    ]
    assert extract[0].parameters == {"top_p": 0.5}
    assert [get_endpoint(one) for one in llm.for_stage("synthesize_samples", "math")] == [
        (*main, "larger", 64),
        (*open_, "open", 2),
    ]
    assert list(llm.stages) == list(stages)
    assert list_secrets(llm) == ["pass!word", "pass%21word", CHEAP, MAIN]
    assert not any(secret in repr(llm) for secret in (MAIN, CHEAP))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"extra": {"stages": {"extract_candidates": {"connection": "nowhere"}}}},
            "There is no connection nowhere, which extract_candidates in stages of connection persona_hub_llm names. "
            "To do: create it: airflow connections add nowhere --conn-json ",
        ),
        (
            {"extra": {"fallback": [{"connection": "nowhere"}]}},
            "There is no connection nowhere, which an entry in fallback of connection persona_hub_llm names",
        ),
        ({"extra": {"fallback": [{"api_key": CHEAP}]}}, "There is an address or a key in an entry in fallback of"),
        (
            {"extra": {"stages": {"x": {"connection": "cheap_llm", "base_url": "http://other.example"}}}},
            "There is an address or a key in x in stages of connection persona_hub_llm",
        ),
        ({"extra": {"fallback": [{"connection": "homeless"}]}}, "Connection homeless has no host"),
        ({"extra": {"fallback": [{"connection": "keyed"}]}}, "Connection keyed has api_key in its extra"),
        ({"extra": {"fallback": [{"connection": "misspelt"}]}}, "PERSONA_HUB_LLM__FALLBACK__0__MODLE: Extra inputs"),
        ({"extra": {"stages": {"x": {"window": 0}}}}, "PERSONA_HUB_LLM__STAGES__X__WINDOW: Input should be"),
        ({"extra": {"stages": ["x"]}}, "PERSONA_HUB_LLM__STAGES: Input should be a valid dictionary"),
        ({"extra": {"fallback": "[{"}}, "PERSONA_HUB_LLM__FALLBACK"),
        ({"extra": {"modle": "x"}}, "Unknown setting PERSONA_HUB_LLM__MODLE"),
        ({"host": ""}, "Connection persona_hub_llm has no host"),
    ],
)
def test_a_mistake_is_named_and_no_key_is_shown(connections: Any, change: dict[str, Any], says: str) -> None:
    connections("homeless", host=None, password=CHEAP)
    connections("keyed", extra={"api_key": CHEAP})
    connections("misspelt", password=CHEAP, extra={"modle": "x"})
    connections("persona_hub_llm", password=MAIN, **change)
    with pytest.raises(AirflowFailException) as caught:
        load_model_settings()
    assert says in str(caught.value)
    assert MAIN not in str(caught.value) and CHEAP not in str(caught.value)
