"""What an endpoint can do: asked of it once with a handful of small calls, then kept in `<lake>/_endpoints/`.

    json_schema   an answer in the form of a given schema      asked without a word of JSON: a server that ignores the
    json_object   an answer that is some JSON object           parameter answers with prose, and does not have it
    seed          a seed is accepted
    logprobs      log probabilities are accepted

A feature is refused where the same call goes well without it, whatever status the server finds for that. An endpoint
that is sick says nothing about its features: nothing is kept then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from persona_hub.core.answers import cut_thoughts
from persona_hub.core.whole_file import write_whole
from persona_hub.errors import ModelMisconfigured, ModelUnavailable
from persona_hub.llm.admission import SharedAdmission, open_admission
from persona_hub.llm.client import ModelClient
from persona_hub.llm.failures import Cure, Failure, build_error
from persona_hub.llm.limits import name_endpoint
from persona_hub.llm.requests import Completion, Request
from persona_hub.settings import BudgetSettings, LlmSettings

log = logging.getLogger(__name__)
VERSION = 1
# Room for an answer; then for one that is still thinking after that.
MAX_TOKENS, MAX_THINKING_TOKENS = 48, 4096
BACKOFF_S, MAX_BACKOFF_S, MAX_RETRY_AFTER_S = 0.5, 10.0, 300.0
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
PLAIN = "Is water wet?"
# OpenAI's JSON mode wants the word in the prompt.
ASK_JSON = 'Is water wet? Answer with a JSON object such as {"answer": "yes"}.'


def find_features(lake: str, settings: LlmSettings) -> tuple[str, ...]:
    """What the endpoint can do: as the settings say, as was found before, or as it shows now.

    Args:
        lake: root folder of the lake; what was found is kept there, per address and model.
        settings: of the endpoint.

    Raises:
        ModelUnavailable: it is down, refusing or timing out.
        ModelMisconfigured: it takes not even a call without any feature.
    """
    if settings.features is not None:
        return settings.features
    file = Path(lake) / "_endpoints" / f"{name_endpoint(settings)}.json"
    if (known := _read(file)) is not None:
        return known
    prober = asyncio.run(_probe(lake, settings))
    features = tuple(name for name, found in prober.found.items() if found == "yes")
    _write(file, features, prober)
    log.info(
        "endpoint %s, model %s can do: %s (%d calls, %d tokens, to be asked again where %s is removed)",
        *(prober.address, settings.model, ", ".join(features) or "none of what is probed"),
        *(prober.calls, prober.prompt_tokens + prober.completion_tokens, file),
    )
    return features


async def _probe(lake: str, settings: LlmSettings) -> _Prober:
    # The limits hold for these calls too; a budget is for rows, not for a few dozen tokens.
    admission = open_admission(lake, settings, BudgetSettings(), None, run_id="", stage="")
    try:
        prober = _Prober(settings, admission)
        await prober.probe()
        return prober
    finally:
        if admission:
            admission.close()


@dataclass
class _Prober:
    settings: LlmSettings
    admission: SharedAdmission | None
    address: str = ""
    found: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    plain_works: bool = False

    async def probe(self) -> None:
        await self._probe_feature("json_schema", replace(self._build(PLAIN), schema=SCHEMA), _fits_schema)
        await self._probe_feature("json_object", replace(self._build(ASK_JSON), schema=SCHEMA), _begins_object)
        plain = self._build(PLAIN)
        await self._probe_feature("seed", plain, None)
        await self._probe_feature("logprobs", replace(plain, parameters=plain.parameters | {"logprobs": True}), None)

    async def _probe_feature(self, name: str, request: Request, fits: Callable[[str], bool] | None) -> None:
        answer = await self._ask(request, (name,))
        if fits and isinstance(answer, Completion) and _is_still_thinking(answer):
            roomy = request.parameters | {"max_tokens": MAX_THINKING_TOKENS} | self.settings.parameters
            answer = await self._ask(replace(request, parameters=roomy), (name,))
        if isinstance(answer, Failure):
            await self._require_plain()
            self.found[name] = f"refused: {answer.message}"
        else:
            fitting = fits is None or fits(cut_thoughts(answer.text or "").strip())
            self.found[name] = "yes" if fitting else "ignored"

    async def _require_plain(self) -> None:
        """Raises where a call without any feature fails too: then it was not the feature that was refused."""
        if self.plain_works:
            return
        answer = await self._ask(self._build(PLAIN), ())
        if isinstance(answer, Failure):
            if answer.cure is Cure.STOP:
                raise build_error(answer, self.address)
            raise ModelMisconfigured(
                f"The model endpoint {self.address} refuses a plain question: {answer.message}",
                wanted="a chat completion",
                cure="correct PERSONA_HUB_LLM__PARAMETERS, where null takes a parameter away, as in "
                '{"max_tokens": null, "max_completion_tokens": 800}',
            )
        self.plain_works = True

    async def _ask(self, request: Request, features: tuple[str, ...]) -> Completion | Failure:
        """An answer, or a failure that speaks of this call; sickness is waited out or raised."""
        client = ModelClient(self.settings, features)
        self.address, seen, maybe_paid = client.address, "", 0
        try:
            for attempt in range(1, self.settings.max_attempts + 1):
                answer = await self._send(client, request)
                if isinstance(answer, Completion) or answer.cure in (Cure.KEEP, Cure.STOP):
                    return answer
                seen = answer.message
                maybe_paid += answer.cure is Cure.RETRY_ONCE
                if maybe_paid > 1 or answer.retry_after_s > MAX_RETRY_AFTER_S:
                    break
                if attempt < self.settings.max_attempts:
                    pause = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (attempt - 1))
                    await asyncio.sleep(answer.retry_after_s + random.uniform(0, pause))  # noqa: S311, keeps no secret
        finally:
            await client.aclose()
        raise ModelUnavailable(
            f"The model endpoint {self.address} did not tell what it can do; asked {attempt} times, last: {seen}",
            wanted="a chat completion",
            cure="see that the server is up and has room, then run the task again; or say what it can do in "
            f"PERSONA_HUB_LLM__FEATURES (asked for now: {', '.join(features) or 'nothing but an answer'})",
        )

    async def _send(self, client: ModelClient, request: Request) -> Completion | Failure:
        self.calls += 1
        if self.admission is None:
            answer = await client.send(request)
        else:
            ticket = await self.admission.admit(request)
            answer = await client.send(request)
            self.admission.settle(ticket, answer if isinstance(answer, Completion) else None)
        if isinstance(answer, Completion):
            self.prompt_tokens += answer.prompt_tokens or 0
            self.completion_tokens += answer.completion_tokens or 0
        return answer

    def _build(self, question: str) -> Request:
        # The settings' parameters go before ours, as they do before a prompt's.
        parameters = {"max_tokens": MAX_TOKENS} | self.settings.parameters
        return Request(self.settings.model, [{"role": "user", "content": question}], parameters)


def _is_still_thinking(answer: Completion) -> bool:
    return answer.finish_reason == "length" and not cut_thoughts(answer.text or "")


def _fits_schema(text: str) -> bool:
    try:
        return json.loads(text) in ({"answer": "yes"}, {"answer": "no"})
    except ValueError:
        return False


def _begins_object(text: str) -> bool:
    """Small models may never end their object: what there is of it shows the mode."""
    return text.startswith("{")


def _read(file: Path) -> tuple[str, ...] | None:
    """What was found before; None where that is nothing, broken, or of another version: it is asked anew."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return tuple(kept["features"]) if kept["version"] == VERSION else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, features: tuple[str, ...], prober: _Prober) -> None:
    kept = {
        "version": VERSION,
        "address": prober.address,
        "model": prober.settings.model,
        "features": features,
        "found": prober.found,
        "probed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "calls": prober.calls,
        "prompt_tokens": prober.prompt_tokens,
        "completion_tokens": prober.completion_tokens,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(kept, indent=1, ensure_ascii=False))
