from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persona_hub.errors import ModelMisconfigured, ModelUnavailable
from persona_hub.llm.probe import find_features
from persona_hub.settings import LlmSettings

ALL = ("json_schema", "json_object", "seed", "logprobs")


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_hub.llm.probe.BACKOFF_S", 0.001)


def name_feature(asked: dict[str, Any]) -> str:
    kind = asked.get("response_format", {}).get("type")
    return kind or next((name for name in ("seed", "logprobs") if name in asked), "plain")


@pytest.fixture
def serve(model_server: Any, answer: Any, chat: Callable[..., str]) -> Callable[..., None]:
    """Makes the server one that has the `has`, lacks the rest by answering `lacking`, or by ignoring it."""

    def serve(has: tuple[str, ...], lacking: tuple[int, str] | None = None) -> None:
        def decide(asked: dict[str, Any]) -> Any:
            feature = name_feature(asked)
            if feature in has and feature.startswith("json"):
                return answer(chat('{"answer": "yes"}'))
            if lacking and feature not in (*has, "plain"):
                return answer(json.dumps({"error": {"message": lacking[1]}}), lacking[0])
            return answer(chat("Yes, water is wet."))

        model_server.decide = decide

    return serve


def read_cache(lake: Path) -> dict[str, Any]:
    (file,) = (lake / "_endpoints").iterdir()
    return json.loads(file.read_text())


def test_asks_once_and_keeps_what_it_found(
    serve: Any, model_server: Any, llm_settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serve(has=ALL)
    with caplog.at_level(logging.INFO, "persona_hub"):
        assert find_features(str(tmp_path), llm_settings(model="m")) == ALL
        assert find_features(str(tmp_path), llm_settings(model="m", api_key="sk-another")) == ALL
    assert [name_feature(asked) for asked in model_server.asked] == list(ALL)
    assert all(asked["model"] == "m" and asked["max_tokens"] == 48 for asked in model_server.asked)
    kept = read_cache(tmp_path)
    assert (kept["calls"], kept["prompt_tokens"], kept["completion_tokens"]) == (4, 44, 28)
    assert kept["found"] == dict.fromkeys(ALL, "yes")
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        f"endpoint {model_server.url}, model m can do: json_schema, json_object, seed, logprobs"
    ]
    assert find_features(str(tmp_path), llm_settings(model="other")) == ALL
    assert len(model_server.asked) == 8


def test_settings_that_say_it_are_believed(llm_settings: Any, model_server: Any, tmp_path: Path) -> None:
    assert find_features(str(tmp_path), llm_settings(features=("seed",))) == ("seed",)
    assert find_features(str(tmp_path), llm_settings(features=())) == ()
    assert model_server.asked == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_a_call_fails_with_and_goes_well_without_is_lacking(
    serve: Any, model_server: Any, llm_settings: Any, tmp_path: Path, status: int
) -> None:
    """Routers answer 404 where no server behind them knows the parameter."""
    serve(has=("json_object",), lacking=(status, "unknown parameter"))
    assert find_features(str(tmp_path), llm_settings()) == ("json_object",)
    assert [name_feature(asked) for asked in model_server.asked] == [*ALL[:1], "plain", *ALL[1:]]
    assert read_cache(tmp_path)["found"] == {
        "json_schema": f"refused: HTTP {status} (unknown parameter)",
        "json_object": "yes",
        "seed": f"refused: HTTP {status} (unknown parameter)",
        "logprobs": f"refused: HTTP {status} (unknown parameter)",
    }


def test_a_server_error_may_be_sickness_and_the_cure_is_told(serve: Any, llm_settings: Any, tmp_path: Path) -> None:
    serve(has=(), lacking=(501, "not implemented"))
    with pytest.raises(ModelUnavailable, match=r"PERSONA_HUB_LLM__FEATURES \(asked for now: json_schema\)"):
        find_features(str(tmp_path), llm_settings(max_attempts=2))
    assert list(tmp_path.iterdir()) == []


def test_prose_where_a_form_was_asked_for_is_a_form_ignored(serve: Any, llm_settings: Any, tmp_path: Path) -> None:
    serve(has=())
    assert find_features(str(tmp_path), llm_settings()) == ("seed", "logprobs")
    assert read_cache(tmp_path)["found"] == {
        "json_schema": "ignored",
        "json_object": "ignored",
        "seed": "yes",
        "logprobs": "yes",
    }


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ('<think>Hm.</think>\n{"answer": "no"}', ALL),
        ('{"answer": "maybe"}', ALL[1:]),  # an object, but not in the form that was asked for
        ('{"answer": "yes", "answer_2": "yes", "ans', ALL[1:]),  # small models do not always find an end
        ('["yes"]', ALL[2:]),
    ],
)
def test_the_answers_form_decides(
    model_server: Any, chat: Any, llm_settings: Any, tmp_path: Path, text: str, features: tuple[str, ...]
) -> None:
    model_server.answer_with(chat(text))
    assert find_features(str(tmp_path), llm_settings()) == features


def test_a_model_that_thinks_gets_room_for_its_answer(
    model_server: Any, answer: Any, chat: Any, llm_settings: Any, tmp_path: Path
) -> None:
    def think(asked: dict[str, Any]) -> Any:
        if asked["max_tokens"] < 1000:
            return answer(chat("<think>Water, hm", "length"))
        return answer(chat('<think>Water, hm.</think>{"answer": "yes"}'))

    model_server.decide = think
    assert find_features(str(tmp_path), llm_settings()) == ALL
    assert [asked["max_tokens"] for asked in model_server.asked] == [48, 4096, 48, 4096, 48, 48]


def test_a_passing_illness_is_waited_out(
    model_server: Any, answer: Any, chat: Any, llm_settings: Any, tmp_path: Path
) -> None:
    busy = [answer("{}", 429, {"Retry-After": "0.01"}), answer("{}", 503), answer("{", 200)]
    model_server.answer_with(*busy, chat('{"answer": "yes"}'))
    assert find_features(str(tmp_path), llm_settings()) == ALL
    assert read_cache(tmp_path)["calls"] == 7 == len(model_server.asked)


def test_sickness_and_misuse_are_raised_and_nothing_is_kept(
    model_server: Any, answer: Any, llm_settings: Any, tmp_path: Path
) -> None:
    def raised(*answers: Any, **changes: Any) -> str:
        model_server.answer_with(*answers)
        with pytest.raises((ModelUnavailable, ModelMisconfigured)) as caught:
            find_features(str(tmp_path), llm_settings(**{"max_attempts": 2} | changes))
        assert list(tmp_path.iterdir()) == []
        return f"{caught.type.__name__}: {caught.value}"

    told = "ModelUnavailable: The model endpoint {} did not tell what it can do; asked 2 times, last: "
    assert raised(answer("{}", 500)).startswith(told.format(model_server.url) + "HTTP 500. Wanted")
    assert "asked 1 times, last: HTTP 429" in raised(answer("{}", 429, {"Retry-After": "3000"}))
    assert "asked 2 times, last: no answer within 0.2 s" in raised(answer(delay_s=0.5), timeout_s=0.2, max_attempts=6)
    nobody = raised(answer("{}"), base_url="http://127.0.0.1:9/v1")
    assert nobody.startswith(told.format("http://127.0.0.1:9/v1") + "no connection")
    unsendable = raised(answer("{}"), base_url="http://127.0.0.1:99999/v1")
    assert unsendable.startswith(
        "ModelMisconfigured: The model endpoint http://127.0.0.1:99999/v1 answers nothing: no "
    )
    assert "ModelMisconfigured: The model endpoint" in raised(answer('{"error": {"message": "who?"}}', 401))
    assert "ModelMisconfigured" in raised(answer("<html>Welcome</html>"))
    refused = raised(answer('{"error": {"message": "Use max_completion_tokens."}}', 400))
    assert "refuses a plain question: HTTP 400 (Use max_completion_tokens.)" in refused
    assert '{"max_tokens": null, "max_completion_tokens": 800}' in refused


def test_the_hard_limits_hold_for_it_too(serve: Any, model_server: Any, llm_settings: Any, tmp_path: Path) -> None:
    serve(has=ALL)
    settings = llm_settings(max_in_flight=1, requests_per_minute=6000, tokens_per_minute=1_000_000)
    assert find_features(str(tmp_path), settings) == ALL
    (found,) = (tmp_path / "_endpoints").iterdir()
    assert {file.stem for file in (tmp_path / "_limits").iterdir()} == {found.stem}


def test_null_takes_a_parameter_away(serve: Any, model_server: Any, llm_settings: Any, tmp_path: Path) -> None:
    serve(has=ALL)
    parameters = {"max_tokens": None, "max_completion_tokens": 800}
    assert find_features(str(tmp_path), llm_settings(parameters=parameters)) == ALL
    assert [asked["max_completion_tokens"] for asked in model_server.asked] == [800] * 4
    assert not any("max_tokens" in asked for asked in model_server.asked)


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"version": 1}', '{"version": 0, "features": ["seed"]}'])
def test_a_broken_cache_is_asked_anew(serve: Any, llm_settings: Any, tmp_path: Path, broken: str) -> None:
    serve(has=ALL)
    settings: LlmSettings = llm_settings()
    find_features(str(tmp_path), settings)
    (file,) = (tmp_path / "_endpoints").iterdir()
    file.write_text(broken)
    assert find_features(str(tmp_path), settings) == ALL
    assert read_cache(tmp_path)["features"] == list(ALL)
