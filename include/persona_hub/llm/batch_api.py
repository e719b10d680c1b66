"""Files and batches of an OpenAI-compatible endpoint: five calls, and errors that say what to do.

Four of them can be repeated, and are. The one that makes a batch is sent once: where its answer is lost, the batch may
be there all the same, and is found by its metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import httpx2
from openai import APIConnectionError, APIStatusError, DefaultHttpxClient, Omit, OpenAI, OpenAIError

from persona_hub.errors import HubError, ModelMisconfigured, ModelUnavailable
from persona_hub.llm.batch_store import PATH
from persona_hub.llm.client import build_headers, is_unsendable, read_endpoint
from persona_hub.llm.failures import ACTS, QUOTED_CHARS, Cure, Failure, build_error, hide_secrets, judge_response
from persona_hub.settings import LlmSettings

ENDED = {"completed", "failed", "expired", "cancelled"}
NO_ROOM = {"token_limit_exceeded", "rate_limit_exceeded", "batch_limit_exceeded"}
INTENT = "persona_hub_intent"
RETRIES = 2
GONE = (
    "see that the address is right and has the batch API, or take the stage out of PERSONA_HUB_BATCH__STAGES; a batch "
    "that is gone for good is asked for again once its record is removed (silver/_batches in the lake)"
)
PAGE = 100
CLOCKS_DIFFER_S = 3600.0


class LostReply(Exception):
    """The batch was asked for, and nobody knows whether it was made."""


class NoRoom(ModelUnavailable):
    """The provider takes no more for now; nothing was made."""


@dataclass(frozen=True)
class BatchState:
    """A batch as the endpoint tells it.

    Attributes:
        files: names of the files that hold its lines, answers first; empty while it runs.
        done, asked: lines finished, and lines there are; 0 where the endpoint does not say.
        problems: why it was refused as a whole.
        no_room: whether it was refused only for want of room in the provider's queue.
    """

    id: str
    status: str
    files: tuple[str, ...]
    done: int
    asked: int
    problems: str
    no_room: bool

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class BatchApi:
    """One endpoint. Close it with `close`.

    All methods raise ModelUnavailable where another try may help, and ModelMisconfigured where a person must act.
    """

    def __init__(self, settings: LlmSettings) -> None:
        endpoint = read_endpoint(settings)
        self.address, self.secrets = endpoint.address, endpoint.secrets
        self._openai = _OpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key,
            timeout=settings.timeout_s,
            max_retries=RETRIES,
            http_client=DefaultHttpxClient(auth=endpoint.auth, timeout=settings.timeout_s),
        )

    def upload(self, file: Path) -> str:
        """Returns the endpoint's name for the file."""
        with self._explain("takes no batch file"), file.open("rb") as stream:
            return self._openai.files.create(file=(file.name, stream), purpose="batch").id + ""

    def create(self, file_id: str, intent_id: str, window: str) -> BatchState:
        """Asks for a batch, once.

        Raises:
            LostReply: it may have been made.
            NoRoom: it was not, and later it might.
        """
        try:
            with self._explain("makes no batch"):
                batch = self._openai.with_options(max_retries=0).batches.create(
                    input_file_id=file_id,
                    endpoint=cast("Literal['/v1/chat/completions']", PATH),
                    completion_window=cast("Literal['24h']", window),
                    metadata={INTENT: intent_id},
                )
                return _read_batch(batch)
        except NoRoom:
            raise
        except ModelUnavailable as error:
            raise LostReply(str(error)) from None

    def find(self, intent_id: str, asked_at: float) -> BatchState | None:
        """The batch that carries this intent, among those made since it was asked for."""
        with self._explain("lists no batches"):
            for batch in self._openai.batches.list(limit=PAGE):
                if (batch.metadata or {}).get(INTENT) == intent_id:
                    return _read_batch(batch)
                if batch.created_at < asked_at - CLOCKS_DIFFER_S:  # the newest come first
                    break
        return None

    def look(self, batch_id: str) -> BatchState:
        with self._explain(f"does not tell of batch {batch_id}"):
            return _read_batch(self._openai.batches.retrieve(batch_id))

    def fetch(self, file_id: str, target: Path) -> None:
        """Brings a file home whole, or raises."""
        with (
            self._explain(f"does not hand out file {file_id}"),
            self._openai.files.with_streaming_response.content(file_id) as response,
        ):
            response.stream_to_file(target)

    def close(self) -> None:
        self._openai.close()

    @contextmanager
    def _explain(self, fault: str) -> Iterator[None]:
        # From None: the package's own errors hold the server's words, and those may hold the key.
        try:
            yield
        except APIStatusError as error:
            failure = judge_response(error.status_code, error.response.headers, error.response.text, self.secrets)
            assert isinstance(failure, Failure)  # of a status that is an error
            raise self._build_error(fault, failure) from None
        except (APIConnectionError, httpx2.TransportError, httpx2.InvalidURL) as error:
            if is_unsendable(error):
                seen = hide_secrets(f"nothing: no call can be sent ({error.__cause__ or error})", self.secrets)
                raise build_error(Failure("unsendable", seen), self.address) from None
            raise self._give_up(fault, f"no connection ({error.__cause__ or error})") from None
        except (OpenAIError, ValueError, AttributeError, TypeError) as error:
            # Half a JSON, HTML, or an object of another form: the package hands them on as they are.
            raise self._give_up(fault, f"its answer cannot be read ({error})") from None

    def _build_error(self, fault: str, failure: Failure) -> HubError:
        if failure.error_class == "rate_limited":
            return NoRoom(
                f"The model endpoint {self.address} {fault}: {failure.message}",
                wanted="room for it at the provider",
                cure="run the task again later: batches that it works on are found again",
            )
        if failure.cure in (Cure.RETRY, Cure.RETRY_ONCE):
            return self._give_up(fault, failure.message)
        return ModelMisconfigured(
            f"The model endpoint {self.address} {fault}: {failure.message}",
            wanted="the batch API",
            cure=GONE
            if failure.error_class == "unknown_model"
            else ACTS.get(failure.error_class, "mend what it names"),
        )

    def _give_up(self, fault: str, seen: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"The model endpoint {self.address} {fault}: {hide_secrets(seen, self.secrets)[:QUOTED_CHARS]}",
            cure="see that it is up, then run the task again: batches that it works on are found again",
        )


class _OpenAI(OpenAI):
    @property
    def default_headers(self) -> dict[str, str | Omit]:
        return build_headers(self.user_agent)


def _read_batch(batch: Any) -> BatchState:
    """Raises AttributeError or TypeError where it is none."""
    faults = (batch.errors.data if batch.errors else None) or []
    counts = batch.request_counts
    return BatchState(
        id=batch.id + "",
        status=batch.status + "",
        files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
        done=counts.completed + counts.failed if counts else 0,
        asked=counts.total if counts else 0,
        problems="; ".join(dict.fromkeys(f"{fault.code}: {fault.message}" for fault in faults))[:1000],
        no_room=bool(faults) and all(fault.code in NO_ROOM for fault in faults),
    )
