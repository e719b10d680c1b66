"""A key is in no log line, no error, no kept file, whatever a server throws back at us."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persona_hub.errors import HubError, ModelMisconfigured
from persona_hub.llm.batch_api import BatchApi
from persona_hub.llm.client import ModelClient
from persona_hub.llm.probe import find_features
from persona_hub.llm.requests import Request
from persona_hub.llm.spool import SpoolWriter
from persona_hub.llm.stream import Calling

KEY, PASSWORD = "sk-proj-4711-very-secret", "hush!hush-0815"
BASIC = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
SECRETS = (KEY, KEY[:12], PASSWORD, PASSWORD.replace("!", "%21"), BASIC, BASIC[:12])
QUESTIONS = 4


def quote(words: str) -> str:
    return json.dumps({"error": {"message": words, "code": words}})


# What a server makes of the header that it was sent.
ECHOES: dict[str, Callable[[str], tuple[int, str]]] = {
    "unauthorized": lambda header: (401, quote(f"Bad key: {header}")),
    "forbidden": lambda header: (403, quote(header)),
    "bad_request": lambda header: (400, quote(f"Unknown header {header}")),
    "cut_in_the_middle": lambda header: (400, quote("x" * (300 - len("Bearer sk-proj")) + header)),
    "too_large": lambda header: (413, quote(header)),
    "quota": lambda header: (429, quote(f"insufficient_quota of {header}")),
    "unknown_model": lambda header: (404, quote(header)),
    "overloaded": lambda header: (500, quote(header)),
    "rate": lambda header: (429, quote(header)),
    "plain_text": lambda header: (502, f"Proxy: {header}"),
    "html": lambda header: (200, f"<html>{header}</html>"),
    "other_json": lambda header: (200, json.dumps({header: header})),
    "upstream_error": lambda header: (200, quote(header)),
    "half_json": lambda header: (200, f'{{"choices": ["{header}'),
    "teapot": lambda header: (418, quote(header)),
}


@pytest.fixture
def ask(
    model_server: Any, answer: Any, llm_settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., str]:
    """Probes an endpoint and asks it four questions; what all of that said and left behind."""

    def ask(echo: str, **changes: Any) -> str:
        def throw_back(_: dict[str, Any]) -> Any:
            status, body = ECHOES[echo](model_server.authorizations[-1])
            return answer(body, status)

        model_server.decide = throw_back
        endpoint = llm_settings(**{"api_key": KEY, "max_attempts": 2, "patience_s": 0.1} | changes)
        told = [repr(endpoint), str(endpoint)]
        with caplog.at_level(logging.DEBUG):
            with pytest.raises(HubError) as caught:
                find_features(str(tmp_path), endpoint)
            told.append(tell(caught.value))
            writer = SpoolWriter(tmp_path / "spool", {"slice": "A/00001", "stage": "extract_candidates"}, None)
            calling = Calling(endpoint, ("json_schema", "seed"), writer.write)
            try:
                requests = (Request("m", [{"role": "user", "content": str(n)}]) for n in range(QUESTIONS))
                told += map(repr, calling.answer_all(requests))
            except HubError as error:
                told.append(tell(error))
            writer.close()
            told.append(repr(calling.stats))
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) == 1  # the spool; an endpoint that is not understood leaves nothing
        told += [text for file in files for text in (file.name, file.read_text())]
        told += [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records] + [caplog.text]
        return "\n".join(told)

    return ask


def tell(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(pickle.loads(pickle.dumps(error)))


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_hub.llm.probe.BACKOFF_S", 0.001)


@pytest.mark.parametrize("echo", ECHOES)
def test_key_is_nowhere(ask: Callable[..., str], model_server: Any, echo: str) -> None:
    told = ask(echo)
    assert set(model_server.authorizations) == {f"Bearer {KEY}"}
    assert [secret for secret in SECRETS if secret in told] == []


@pytest.mark.parametrize("echo", ["unauthorized", "bad_request", "overloaded"])
def test_password_of_an_address_is_nowhere(ask: Callable[..., str], model_server: Any, echo: str) -> None:
    told = ask(echo, base_url=model_server.url.replace("://", f"://user:{PASSWORD.replace('!', '%21')}@"))
    assert set(model_server.authorizations) == {f"Basic {BASIC}"}
    assert [secret for secret in SECRETS if secret in told] == []


@pytest.mark.parametrize("echo", ["unauthorized", "upstream_error", "overloaded"])
def test_a_lone_user_of_an_address_is_nowhere(ask: Callable[..., str], model_server: Any, echo: str) -> None:
    basic = base64.b64encode(b"hf_lone-token-42:").decode()
    told = ask(echo, base_url=model_server.url.replace("://", "://hf_lone-token-42@"))
    assert set(model_server.authorizations) == {f"Basic {basic}"}
    assert [secret for secret in (KEY, "hf_lone", basic[:12]) if secret in told] == []


@pytest.mark.parametrize("ends", ["\n", "\r\n", " "])
def test_what_a_file_adds_to_a_key_is_not_sent(ask: Callable[..., str], model_server: Any, ends: str) -> None:
    told = ask("unauthorized", api_key=KEY + ends)
    assert set(model_server.authorizations) == {f"Bearer {KEY}"}
    assert KEY[:12] not in told


def test_key_is_nowhere_in_the_forms_of_repr(ask: Callable[..., str], model_server: Any) -> None:
    told = ask("upstream_error", api_key="sk-back\\slash's-0815")
    assert set(model_server.authorizations) == {"Bearer sk-back\\slash's-0815"}
    assert [part for part in ("sk-back", "0815") if part in told] == []


@pytest.mark.parametrize("broken", [f"{KEY[:8]}\n{KEY[8:]}", f"{KEY}\x7f1", f"{KEY}\u2026", f"{KEY[:8]}\0{KEY[8:]}"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(llm_settings: Any, model_server: Any, broken: str) -> None:
    endpoint = llm_settings(api_key=broken)
    for use in (lambda: ModelClient(endpoint, ()), lambda: BatchApi(endpoint)):
        with pytest.raises(ModelMisconfigured) as caught:
            use()
        assert caught.value.found == "The key of the model endpoint holds control characters or letters beyond ASCII"
        assert "sk-" not in tell(caught.value)
    assert model_server.asked == []


OTHERS = {
    "OPENAI_API_KEY": "sk-other",
    "OPENAI_ADMIN_KEY": "sk-other",
    "OPENAI_ORG_ID": "org-other",
    "OPENAI_PROJECT_ID": "proj-other",
    "OPENAI_CUSTOM_HEADERS": "X-Other: other\nAuthorization: Bearer sk-other\nContent-Type: text/other",
}


def test_what_the_environment_holds_for_others_is_not_sent(
    model_server: Any, answer: Any, llm_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OTHERS.items():
        monkeypatch.setenv(name, value)

    async def send() -> None:
        client = ModelClient(llm_settings(api_key=None), ())
        await client.send(Request("m", [{"role": "user", "content": "Hi"}]))
        await client.aclose()

    asyncio.run(send())
    model_server.answer_with(answer('{"error": {"message": "no"}}', 400))
    api = BatchApi(llm_settings())
    with pytest.raises(ModelMisconfigured):
        api.create("file-1", "intent-1", "24h")
    api.close()
    assert model_server.authorizations == ["Bearer none", "Bearer sk-secret-1"]
    assert [headers["content-type"] for headers in model_server.headers] == ["application/json"] * 2
    assert "other" not in str(model_server.headers)


def test_a_batch_that_cannot_be_sent_stops(llm_settings: Any) -> None:
    api = BatchApi(llm_settings(base_url="http://user:hush@127.0.0.1:8/v1", api_key=KEY))
    api._openai.base_url = "gopher://127.0.0.1/"  # no such address gets past the settings
    with pytest.raises(ModelMisconfigured) as caught:
        api.look("batch_1")
    api.close()
    assert str(caught.value).startswith(
        "The model endpoint http://127.0.0.1:8/v1 answers nothing: no call can be sent (Request URL has an unsupported "
    )
