"""A model server on the loopback interface that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from persona_hub.settings import LlmSettings


@dataclass
class Answer:
    """One HTTP answer: a status, a body, and seconds to wait before it."""

    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


def write_chat(text: str | None = "Hello.", finish_reason: str = "stop", **message: Any) -> str:
    """The body of a chat completion with usage."""
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "served-model",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish_reason,
                    "message": {"role": "assistant", "content": text, **message},
                }
            ],
            "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 7,
                "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 3},
            },
        }
    )


class ModelServer:
    """Answers by a list (its last answer stays) or by a function of the request's JSON; keeps what it was asked."""

    def __init__(self) -> None:
        self.script: list[Answer] = [Answer(write_chat())]
        self.decide: Callable[[dict[str, Any]], Answer] | None = None
        self.asked: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.flying = self.most_flying = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer_with(self, *answers: Answer | str) -> None:
        self.script = [Answer(answer) if isinstance(answer, str) else answer for answer in answers]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.asked.append(asked)
            self.authorizations.append(handler.headers.get("Authorization", ""))
            self.flying += 1
            self.most_flying = max(self.most_flying, self.flying)
            scripted = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        answer = self.decide(asked) if self.decide else scripted
        time.sleep(answer.delay_s)
        with self._lock:
            self.flying -= 1
        body = answer.body.encode()
        try:
            handler.send_response(answer.status)
            for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            pass  # the client gave up first; a test of the time limit wants just that


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def chat() -> Callable[..., str]:
    return write_chat


@pytest.fixture
def llm_settings(model_server: ModelServer) -> Callable[..., LlmSettings]:
    """Settings for the loopback server; keyword arguments replace what a test needs otherwise."""

    def build(**changes: Any) -> LlmSettings:
        return LlmSettings(**{"base_url": model_server.url, "api_key": "sk-secret-1", "timeout_s": 5, **changes})

    return build


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for what a server asks, not for jitter."""
    monkeypatch.setattr("persona_hub.llm.client.BACKOFF_S", 0.001)
