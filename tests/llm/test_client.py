from __future__ import annotations

import asyncio
import socket
import time
import traceback

import pytest

from persona_hub.errors import ModelMisconfigured, ModelUnavailable
from persona_hub.llm.client import ModelClient, hide_credentials
from persona_hub.llm.pricing import compute_cost
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import LlmSettings

REQUEST = Request(
    "m", [{"role": "user", "content": "Hi"}], {"temperature": 0, "stop": ["."]}, {"type": "object"}, sample=2
)


def ask(settings: LlmSettings, request: Request = REQUEST) -> Completion:
    async def run() -> Completion:
        client = ModelClient(settings)
        try:
            return await client.ask(request)
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_reads_text_reason_tokens_and_model(model_server, llm_settings):
    completion = ask(llm_settings())
    seen = (completion.text, completion.finish_reason, completion.prompt_tokens, completion.cached_tokens)
    assert seen == ("Hello.", "stop", 11, 3)
    assert (completion.completion_tokens, completion.answered_by, completion.attempts) == (7, "served-model", 1)
    assert (completion.key, completion.error_class) == (REQUEST.key, None)


def test_sends_parameters_seed_schema_and_the_key(model_server, llm_settings):
    ask(llm_settings())
    asked = model_server.asked[0]
    assert {name: asked[name] for name in ("model", "temperature", "stop", "seed")} == {
        "model": "m", "temperature": 0, "stop": ["."], "seed": 2,
    }  # fmt: skip
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert model_server.authorizations == ["Bearer sk-secret-1"]


def test_sends_no_schema_to_an_endpoint_without(model_server, llm_settings):
    ask(llm_settings(json_schema=False))
    assert "response_format" not in model_server.asked[0]


def test_never_sends_the_environments_key(model_server, llm_settings, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    ask(llm_settings(api_key=None))
    assert model_server.authorizations == ["Bearer none"]


def test_waits_as_long_as_the_server_asks(model_server, llm_settings, answer, chat):
    model_server.answer_with(answer("{}", 429, {"Retry-After": "1"}), chat())
    started = time.monotonic()
    assert ask(llm_settings()).attempts == 2
    assert time.monotonic() - started >= 1


def test_does_not_wait_for_hours(model_server, llm_settings, answer):
    model_server.answer_with(answer("{}", 429, {"Retry-After": "7200"}))
    with pytest.raises(ModelUnavailable, match="429"):
        ask(llm_settings())
    assert len(model_server.asked) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_tries_again_what_may_be_cured(model_server, llm_settings, answer, chat, status):
    model_server.answer_with(answer("<html>", status), answer("", status), chat())
    assert ask(llm_settings()).attempts == 3


def test_gives_up_after_max_attempts(model_server, llm_settings, answer):
    model_server.answer_with(answer('{"error": {"message": "overloaded, key sk-secret-1"}}', 503))
    with pytest.raises(ModelUnavailable) as caught:
        ask(llm_settings(max_attempts=3))
    assert len(model_server.asked) == 3
    assert model_server.url in str(caught.value) and "overloaded, key ***" in str(caught.value)


def test_says_that_nobody_listens(llm_settings):
    with socket.socket() as taken:  # bound, not listening: refuses every connection
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ModelUnavailable, match=f"127.0.0.1:{port}.*2 of 2 tries.*no connection"):
            ask(llm_settings(base_url=f"http://user:pass@127.0.0.1:{port}/v1", max_attempts=2))


def test_time_limit_holds_for_the_whole_call(model_server, llm_settings, answer, chat):
    model_server.answer_with(answer(chat(), delay_s=0.6))
    with pytest.raises(ModelUnavailable, match=r"no answer within 0\.2 s"):
        ask(llm_settings(timeout_s=0.2, max_attempts=1))


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("", "an empty body"),
        ('{"id": "x", "choices": [{"mess', "half a JSON"),
        ('{"choices": []}', "no choice"),
        ('{"error": {"code": 502}}', "an error in place of an answer"),
    ],
)
def test_incomplete_bodies_are_tried_again(model_server, llm_settings, chat, body, seen):
    model_server.answer_with(body, chat())
    assert ask(llm_settings()).attempts == 2
    model_server.answer_with(body)
    with pytest.raises(ModelUnavailable, match=seen):
        ask(llm_settings(max_attempts=2))


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("<!doctype html><p>Log in</p>", "HTML"),
        ("[1, 2]", "a JSON list"),
        ('"yes"', "a JSON text"),
        ('{"status": "fine"}', r"keys \['status'\]"),
        ('{"choices": [3]}', r"keys \['choices'\]"),
        ('{"choices": [{"message": {"content": [1]}}]}', "content is a list"),
    ],
)
def test_what_is_no_such_api_needs_a_person(model_server, llm_settings, body, seen):
    model_server.answer_with(body)
    with pytest.raises(ModelMisconfigured, match=seen):
        ask(llm_settings())
    assert len(model_server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "cure"),
    [
        (401, '{"error": {"message": "wrong key sk-secret-1"}}', "correct the key"),
        (403, "{}", "access to this model"),
        (404, "<html>", "ends in /v1"),
        (429, '{"error": {"code": "insufficient_quota"}}', "raise the quota"),
    ],
)
def test_what_a_person_must_cure_is_not_tried_again(model_server, llm_settings, answer, status, body, cure):
    model_server.answer_with(answer(body, status))
    with pytest.raises(ModelMisconfigured, match=cure) as caught:
        ask(llm_settings())
    assert len(model_server.asked) == 1
    assert "sk-secret-1" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("status", "kind"), [(400, "bad_request"), (413, "too_large"), (422, "unprocessable")])
def test_refused_words_are_an_answer(model_server, llm_settings, answer, status, kind):
    model_server.answer_with(answer('{"error": {"message": "too long for sk-secret-1"}}', status))
    completion = ask(llm_settings())
    assert (completion.text, completion.error_class, completion.attempts) == (None, kind, 1)
    assert completion.error == f"HTTP {status} (too long for ***)"


@pytest.mark.parametrize(
    ("message", "text", "reason"),
    [
        ({"text": "Half a", "finish_reason": "length"}, "Half a", "length"),
        ({"text": ""}, "", "stop"),
        ({"text": None}, "", "stop"),
        ({"text": None, "refusal": "I will not."}, "I will not.", "refusal"),
    ],
)
def test_odd_answers_are_kept_as_they_are(model_server, llm_settings, chat, message, text, reason):
    model_server.answer_with(chat(**message))
    completion = ask(llm_settings())
    assert (completion.text, completion.finish_reason, completion.error_class) == (text, reason, None)


def test_missing_usage_is_unknown_not_zero(model_server, llm_settings):
    model_server.answer_with('{"choices": [{"message": {"content": "x"}}]}')
    completion = ask(llm_settings())
    assert (completion.prompt_tokens, completion.completion_tokens, completion.answered_by) == (None, None, None)
    assert compute_cost(completion, llm_settings(price_input=1, price_output=2)) is None


def test_cost(model_server, llm_settings):
    completion = ask(llm_settings())
    assert compute_cost(completion, llm_settings()) is None
    assert compute_cost(completion, llm_settings(price_input=1, price_output=0)) == pytest.approx(11e-6)
    assert compute_cost(completion, llm_settings(price_input=1, price_output=2)) == pytest.approx(25e-6)


def test_address_is_needed():
    with pytest.raises(ModelMisconfigured, match="persona_hub_llm"):
        ask(LlmSettings())


def test_hides_credentials():
    assert hide_credentials("https://me:word@host:8/v1?key=1") == "https://host:8/v1"
