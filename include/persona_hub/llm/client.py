"""One call to an OpenAI-compatible endpoint: what is worth another try, what is an answer, what a person must cure.

    429, 408, 409, 5xx, no connection, time out, empty body, half a JSON   tried again, then ModelUnavailable
    400, 413, 422                                                          an answer: the endpoint refuses these words
    401, 402, 403, 404, other 4xx, HTML, JSON of another form              ModelMisconfigured at once

The package's own retries are off: here the error decides. No message holds the key, nor the address's credentials.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, DefaultAsyncHttpxClient

from persona_hub.errors import ModelMisconfigured, ModelUnavailable
from persona_hub.llm.replies import Incomplete, read_reply
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import LlmSettings

BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 300.0
KEPT_AS_ANSWER = {400: "bad_request", 413: "too_large", 422: "unprocessable"}
WORTH_A_RETRY = {408, 409, 425, 429}


class ModelClient:
    """Asks one endpoint. Belongs to one event loop; close it with `aclose`.

    Raises:
        ModelMisconfigured: no address is set.
    """

    def __init__(self, settings: LlmSettings) -> None:
        if not settings.base_url:
            raise ModelMisconfigured(
                "No model endpoint is set",
                wanted="the address of an OpenAI-compatible API, /v1 included",
                cure="set the Airflow connection persona_hub_llm, or PERSONA_HUB_LLM__BASE_URL",
            )
        self._settings = settings
        self._secret = settings.api_key.get_secret_value() if settings.api_key else ""
        self.address = hide_credentials(settings.base_url)
        self._stopping = asyncio.Event()
        self._openai = AsyncOpenAI(
            base_url=settings.base_url,
            # Never left out: the package would take OPENAI_API_KEY from the environment and send it here.
            api_key=self._secret or "none",
            max_retries=0,
            timeout=settings.timeout_s,
            http_client=DefaultAsyncHttpxClient(
                limits=httpx2.Limits(max_connections=settings.window, max_keepalive_connections=settings.window),
                timeout=settings.timeout_s,
            ),
        )

    async def ask(self, request: Request) -> Completion:
        """Asks until there is an answer or no hope.

        Raises:
            ModelUnavailable: `max_attempts` tries failed, each in a way that another try might have cured.
            ModelMisconfigured: a person must act.
        """
        for attempt in range(1, self._settings.max_attempts + 1):
            started = time.monotonic()
            seen, wait = "", 0.0
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    body = await self._post(request)
                reply = read_reply(body, self.address)
                return Completion(request.key, **reply, latency_s=time.monotonic() - started, attempts=attempt)
            except (TimeoutError, APITimeoutError):
                seen = f"no answer within {self._settings.timeout_s:g} s"
            except APIStatusError as error:
                if error.status_code in KEPT_AS_ANSWER:
                    return self._keep_failure(request, error, time.monotonic() - started, attempt)
                seen, wait = self._judge_status(error)
            except APIConnectionError as error:
                seen = f"no connection ({self._scrub(str(error.__cause__ or error)) or type(error.__cause__).__name__})"
            except Incomplete as error:
                seen = self._scrub(str(error))
            hopeless = attempt == self._settings.max_attempts or self._stopping.is_set() or wait > MAX_RETRY_AFTER_S
            jitter = random.uniform(0, _backoff(attempt))  # noqa: S311, spreads calls, keeps no secret
            if hopeless or await self._stopped_within(wait + jitter):
                break
        raise ModelUnavailable(
            f"The model endpoint {self.address} failed {attempt} of {self._settings.max_attempts} tries; last: {seen}",
            wanted="a chat completion",
            cure="see that the server is up and has room, then run the task again: answers so far are kept",
        ) from None

    def stop(self) -> None:
        """No further tries from now on: a call that waits for its next one gives up with what it saw."""
        self._stopping.set()

    async def aclose(self) -> None:
        await self._openai.close()

    async def _post(self, request: Request) -> str:
        format_ = {}
        if request.schema is not None and self._settings.json_schema:
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            format_ = {"response_format": {"type": "json_schema", "json_schema": schema}}
        # Raw, because the package would hand HTML through as text and raise bare JSON errors for half a body.
        # The sample number is the seed, 0 too: the same key then asks for the same answer.
        response = await self._openai.chat.completions.with_raw_response.create(
            model=request.model,
            messages=request.messages,  # type: ignore[arg-type]
            seed=request.sample,
            extra_body={**request.parameters, **format_},
        )
        return str(response.text)

    def _judge_status(self, error: APIStatusError) -> tuple[str, float]:
        """What was seen and how long the server wants us to wait; raises where waiting cures nothing."""
        seen = f"HTTP {error.status_code}{self._quote(error)}"
        broke = error.status_code == 429 and "insufficient_quota" in error.response.text
        if (error.status_code in WORTH_A_RETRY or error.status_code >= 500) and not broke:
            return seen, _read_retry_after(error.response.headers)
        cures = {
            401: "correct the key in the connection persona_hub_llm",
            402: "pay the provider's bill",
            403: "ask for access to this model, or correct the key in the connection persona_hub_llm",
            404: f"see that the address ends in /v1 and that the model {self._settings.model!r} exists there",
            429: "raise the quota at the provider",
        }
        raise ModelMisconfigured(
            f"The model endpoint {self.address} answers {seen}",
            wanted="a chat completion",
            cure=cures.get(error.status_code, "see that an OpenAI-compatible API listens at this address"),
        ) from None

    def _keep_failure(self, request: Request, error: APIStatusError, latency_s: float, attempts: int) -> Completion:
        return Completion(
            key=request.key,
            text=None,
            finish_reason=None,
            prompt_tokens=None,
            cached_tokens=None,
            completion_tokens=None,
            latency_s=latency_s,
            attempts=attempts,
            error_class=KEPT_AS_ANSWER[error.status_code],
            error=f"HTTP {error.status_code}{self._quote(error)}",
        )

    def _quote(self, error: APIStatusError) -> str:
        """The server's own words: its JSON message where it has one, nothing of an HTML page."""
        try:
            body: Any = json.loads(error.response.text)
        except ValueError:
            return ""
        inner = body.get("error", body) if isinstance(body, dict) else body
        message = inner.get("message", "") if isinstance(inner, dict) else inner
        return f" ({self._scrub(str(message))[:300]})" if message else ""

    def _scrub(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False


def hide_credentials(url: str) -> str:
    """The address without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _backoff(attempt: int) -> float:
    """Upper end of full jitter: 0.5 s, doubled per try, at most 30 s."""
    return float(min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (attempt - 1)))


def _read_retry_after(headers: Mapping[str, str]) -> float:
    """Seconds from Retry-After, in seconds or as a date (RFC 9110, 10.2.3); 0 where it says nothing readable."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
