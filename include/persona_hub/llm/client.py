"""One send to an OpenAI-compatible endpoint, and what came of it. Nothing is sent twice here: llm/engine.py decides.

The package's own retries are off, and its request and answer models are passed by: the body goes out and comes in
as bytes, which halves the cost of a call. No message holds the key, nor the address's credentials.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient, Omit

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm.failures import Failure, hide_secrets, judge_response
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import LlmSettings

CONNECT_S = 10.0
# Below the 5 s after which uvicorn (vLLM) closes an idle connection: a call that meets the close looks like a lost one.
IDLE_S = 3.0
UNSENDABLE = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL, aiohttp.InvalidURL)
# In the package's own words most of these are timeouts, and so is a server that hangs up.
UNCONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
# These quote what came, cut to a length: half a key would not be found.
QUOTING = (aiohttp.ClientResponseError, aiohttp.ClientPayloadError)


@dataclass(frozen=True)
class Endpoint:
    """Where calls go and what opens it.

    Attributes:
        address: as messages show it.
        base_url: without user and password.
        auth: these, where the address has them; they go in the place of the key.
        key: never empty: the package would take OPENAI_API_KEY from the environment and send it here.
        secrets: what no message may repeat.
    """

    address: str
    base_url: str
    auth: httpx2.BasicAuth | None = field(repr=False)
    key: str = field(repr=False)
    secrets: list[str] = field(repr=False)


class ModelClient:
    """Sends to one endpoint. Belongs to one event loop; close it with `aclose`.

    Args:
        settings: the endpoint; its key is sent to nobody else.
        features: what the endpoint can do (settings.Feature).

    Raises:
        ModelMisconfigured: as `read_endpoint` does.
    """

    def __init__(self, settings: LlmSettings, features: tuple[str, ...]) -> None:
        self._features, self._timeout_s = features, settings.timeout_s
        endpoint = read_endpoint(settings)
        self.address, self._secrets = endpoint.address, endpoint.secrets
        # Shorter than the call's own limit, which would tell a timeout: then nobody knows whether it was paid.
        connect_s = min(CONNECT_S, settings.timeout_s / 2)
        # `pool` is to this transport what finding the name, connecting and the handshake may take together; the rest
        # is timed in `send`, for the call as a whole. 0 is its word for no limit, None would be 100 connections.
        timeout = httpx2.Timeout(None, pool=connect_s)
        limits = httpx2.Limits(max_connections=0, keepalive_expiry=IDLE_S)
        http = DefaultAioHttpClient(limits=limits, timeout=timeout, verify=_load_trust(), auth=endpoint.auth)
        self._openai = _AsyncOpenAI(
            base_url=endpoint.base_url, api_key=endpoint.key, max_retries=0, timeout=timeout, http_client=http
        )

    async def send(self, request: Request) -> Completion | Failure:
        """Sends once; whatever the endpoint does becomes a value."""
        content = json.dumps(build_body(request, self._features)).encode()
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._openai.post("/chat/completions", cast_to=httpx2.Response, content=content)
        except APIStatusError as error:
            response = error.response
        except (APIConnectionError, aiohttp.ClientError, httpx2.InvalidURL) as error:
            return self._judge_connection(error)
        except TimeoutError:
            return Failure("timeout", f"no answer within {self._timeout_s:g} s")
        result = judge_response(response.status_code, response.headers, response.text, self._secrets)
        if isinstance(result, Failure):
            return result
        return Completion(request.key, **result, latency_s=time.monotonic() - started, attempts=1)

    async def aclose(self) -> None:
        await self._openai.close()

    def _judge_connection(self, error: Exception) -> Failure:
        causes = list(_walk_causes(error))
        told = error.__cause__ or error  # the package's own words are the same for all
        seen = hide_secrets(str(told), self._secrets) or type(told).__name__
        if is_unsendable(error):
            return Failure("unsendable", f"nothing: no call can be sent ({seen})")
        if any(isinstance(cause, UNCONNECTED) for cause in causes):
            return Failure("refused_connection", f"no connection ({seen})")
        quoting = next((type(cause).__name__ for cause in causes if isinstance(cause, QUOTING)), "")
        return Failure("disconnected", f"the connection was cut ({quoting or seen})")


class _AsyncOpenAI(AsyncOpenAI):
    @property
    def default_headers(self) -> dict[str, str | Omit]:
        return build_headers(self.user_agent)


def build_headers(user_agent: str) -> dict[str, str | Omit]:
    """What goes with each call besides its key. The package's own would take the headers, organization and project that
    OPENAI_* variables of the environment mean for another endpoint."""
    return {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": user_agent}


def is_unsendable(error: BaseException) -> bool:
    """Whether nothing can ever be sent so: the address or a header is at fault."""
    return any(isinstance(cause, UNSENDABLE) for cause in _walk_causes(error))


def _walk_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


@cache
def _load_trust() -> ssl.SSLContext:
    """Once per process: reading the certificates takes longer than a dozen calls."""
    return httpx2.create_ssl_context()


def build_body(request: Request, features: tuple[str, ...]) -> dict[str, Any]:
    """The JSON of a call, as it is sent alone and as a line of a batch: no more than the endpoint can do."""
    body: dict[str, Any] = {"model": request.model, "messages": request.messages}
    if "seed" in features:
        body["seed"] = request.seed
    # Null takes a parameter of the prompt away.
    body |= {name: value for name, value in request.parameters.items() if value is not None}
    if request.schema is not None and "json_schema" in features:
        schema = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.schema is not None and "json_object" in features:
        body["response_format"] = {"type": "json_object"}
    return body


def read_endpoint(settings: LlmSettings) -> Endpoint:
    """The endpoint of the settings.

    Raises:
        ModelMisconfigured: no address, one that is none of HTTP, or a key that no header can carry.
    """
    url = (settings.base_url or "").strip()
    if not url:
        raise ModelMisconfigured(
            "No model endpoint is set",
            wanted="the address of an OpenAI-compatible API, /v1 included",
            cure="set the Airflow connection persona_hub_llm, or PERSONA_HUB_LLM__BASE_URL",
        )
    key = settings.api_key.get_secret_value().strip() if settings.api_key else ""
    if not (key.isascii() and key.isprintable()):
        raise ModelMisconfigured(
            "The key of the model endpoint holds control characters or letters beyond ASCII",
            wanted="the key as its provider shows it",
            cure="correct the password of the Airflow connection persona_hub_llm, or PERSONA_HUB_LLM__API_KEY",
        )
    if not _is_address(url):
        # Not shown: what is in a wrong place may be a password.
        raise ModelMisconfigured(
            "The address of the model endpoint is none",
            wanted="http:// or https://, a host, and the path of an OpenAI-compatible API, /v1 included",
            cure="correct the host of the Airflow connection persona_hub_llm, or PERSONA_HUB_LLM__BASE_URL",
        )
    base_url, auth = split_credentials(url)
    return Endpoint(hide_credentials(url), base_url, auth, key or "none", list_secrets(url, key))


def _is_address(url: str) -> bool:
    try:
        address = httpx2.URL(split_credentials(url)[0])
    except (ValueError, httpx2.InvalidURL):
        return False
    return address.scheme in ("http", "https") and bool(address.host)


def split_credentials(url: str) -> tuple[str, httpx2.BasicAuth | None]:
    """The address without user and password, and these: the package would show the whole address in its log."""
    parts = urlsplit(url)
    auth = (
        httpx2.BasicAuth(unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
    )
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), auth


def list_secrets(url: str, key: str) -> list[str]:
    """The key, and an address's password or lone user, in all the forms in which they may come back."""
    parts = urlsplit(url)
    user, password = parts.username or "", parts.password or ""
    plain = [key, password or user, unquote(password or user)]
    basic = f"{unquote(user)}:{unquote(password)}".encode() if user or password else b""
    secrets = {*plain, *(repr(secret)[1:-1] for secret in plain), base64.b64encode(basic).decode()} - {""}
    # The longest first: one may hold another.
    return sorted(secrets, key=len, reverse=True)


def hide_credentials(url: str) -> str:
    """The address without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
