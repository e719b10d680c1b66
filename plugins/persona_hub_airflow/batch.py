"""A stage's questions as batches of the model endpoint: half the price at most providers, within a day.

Submits what is pending, waits without a worker, and brings the answers to the stage's spool. The task that follows is
the stage itself: it folds the spool, and asks by calls what no batch has answered.

- A retry, a cleared task and another run find what was asked for (persona_hub/llm/batches.py), and buy it no second time.
- Where the provider has no room at all, the task waits and asks again, for as long as it may run, and keeps its slot of
  the pool meanwhile. Where the budget has none, it fails once nothing of its own is under way.
- The trigger buys nothing and keeps nothing: a triggerer that restarts looks anew.
- Marking the task failed, or clearing it, cancels nothing: what is under way is paid for, and the next run brings it home.

Not the LLMBatchOperator of apache-airflow-providers-common-ai (1.0.0): its record belongs to one run, so another run of
the slice would buy everything again; it cancels paid work when the task is cleared, and unless told otherwise when the
requests have changed; it takes all requests as one list; and it brings pydantic-ai.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from persona_hub.errors import HubError, ModelUnavailable
from persona_hub.settings import Settings
from persona_hub.stages import get_stage
from persona_hub_airflow.connections import load_model_settings
from persona_hub_airflow.estimate import read_slice_key

if TYPE_CHECKING:
    from airflow.sdk import Context

    from persona_hub.llm.batches import Batches

logging.getLogger("httpx2").setLevel(logging.WARNING)  # else a line per look, for a day


class BatchOperator(BaseOperator):
    """Asks what is pending of one stage and slice in batches, and succeeds when all of them have ended.

    What a batch left out (expired, cancelled, failed for a while) is counted in the log, and is no failure.

    Args:
        stage: the stage that the answers are for, as in extract_candidates.
        data_type: of that stage, where it has them (templated).
    """

    template_fields: Sequence[str] = ("data_type",)

    def __init__(self, *, stage: str, data_type: str = "", pool: str = "llm", **kwargs: Any) -> None:
        super().__init__(pool=pool, **kwargs)
        self.stage = stage
        self.data_type = data_type

    def execute(self, context: Context) -> None:
        from persona_hub.forecast import price_batch_request
        from persona_hub.llm.probe import find_features
        from persona_hub.pending import iter_pending  # Arrow and deltalake: not while parsing

        with self._open_batches(context) as (settings, batches):
            run = context["dag_run"]
            stage = get_stage(self.stage, self.data_type)
            [endpoint, *_] = settings.llm.for_stage(self.stage, self.data_type)
            fields = {
                "slice": run.partition_key,
                "stage": self.stage,
                "data_type": self.data_type,
                "run_id": run.run_id,
                "prompt_hash": stage.load_prompt(endpoint).hash,
                "model": endpoint.model,
            }
            pending = iter_pending(settings, run.partition_key, stage, everywhere=True)
            money_each = price_batch_request(settings, run.partition_key, stage)
            batches.freeze(pending, fields, find_features(settings.lake, endpoint), money_each)
            waiting = self._submit(batches)
        if waiting is None:
            self._wait_for([], settings)
        elif waiting:
            self._wait_for(waiting, settings)
        else:
            self.log.info("Nothing is pending: no batch")

    def execute_complete(self, context: Context, event: dict[str, str]) -> None:
        """Goes on when the batches have ended, or cannot be looked at any more: then it says why."""
        from persona_hub.llm.pricing import find_price

        self.log.info("%s", event["seen"])
        with self._open_batches(context) as (settings, batches):
            harvest = batches.collect(lambda model: find_price(settings, model))
            self.log.info("%s", harvest)
            harvest.raise_faults()
            # The provider refused all of them just now: not again at once.
            refused = harvest.no_room and not harvest.batches
            waiting = None if refused else self._submit(batches)  # those that there was no room for
        if waiting is None:
            self._wait_for([], settings)
        elif waiting:
            self._wait_for(waiting, settings)

    def _submit(self, batches: Batches) -> list[str] | None:
        """Ids of the batches to wait for; None where the provider has no room for any."""
        from persona_hub.llm.batch_api import NoRoom

        try:
            return batches.submit()
        except NoRoom as error:
            self.log.warning("%s", error)
            return None

    def _wait_for(self, batch_ids: list[str], settings: Settings) -> None:
        if batch_ids:
            self.log.info("Waiting for %d batches: %s", len(batch_ids), ", ".join(batch_ids))
        else:
            self.log.info("The provider has no room: asking again in %g s", settings.batch.poll_s)
        trigger = BatchTrigger(self.stage, self.data_type, batch_ids, settings.batch.poll_s)
        self.defer(trigger=trigger, method_name="execute_complete")

    @contextmanager
    def _open_batches(self, context: Context) -> Iterator[tuple[Settings, Batches]]:
        from persona_hub.llm.batches import open_batches

        slice_key, settings = read_slice_key(context), load_model_settings()
        [endpoint, *_] = settings.llm.for_stage(self.stage, self.data_type)
        try:
            with open_batches(
                settings.lake, slice_key, self.stage, self.data_type, endpoint, settings.batch, settings.budget
            ) as batches:
                yield settings, batches
        except HubError as error:
            kind = AirflowException if error.retry_helps else AirflowFailException
            raise kind(f"{type(error).__name__}: {error}") from None


class BatchTrigger(BaseTrigger):
    """Fires when none of the batches runs any more; after one pause where there are none to look at.

    An endpoint that is down is waited for.

    Holds no secret: each look reads the connection.

    Args:
        stage, data_type: whose endpoint it is.
        batch_ids: the endpoint's names.
        poll_s: seconds between two looks.
    """

    def __init__(self, stage: str, data_type: str, batch_ids: list[str], poll_s: float) -> None:
        super().__init__()
        self.stage, self.data_type, self.batch_ids, self.poll_s = stage, data_type, batch_ids, poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("stage", "data_type", "batch_ids", "poll_s")
        return "persona_hub_airflow.batch.BatchTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told = ""
        if not self.batch_ids:
            await asyncio.sleep(self.poll_s)
            yield TriggerEvent({"seen": "Asking again"})
            return
        while True:
            try:
                # In a thread: the connection and the endpoint's answer would hold up every other trigger.
                running, seen = await asyncio.to_thread(self._look)
            except ModelUnavailable as error:
                running, seen = True, str(error)
            except (HubError, AirflowFailException) as error:  # the operator will meet it, and fail with it
                running, seen = False, str(error)
            if not running:
                yield TriggerEvent({"seen": seen})
                return
            if seen != told:
                self.log.info("%s", seen)
                told = seen
            await asyncio.sleep(self.poll_s)

    def _look(self) -> tuple[bool, str]:
        """Whether any of them still runs, and what each does."""
        from persona_hub.llm.batch_api import BatchApi

        [endpoint, *_] = load_model_settings().llm.for_stage(self.stage, self.data_type)
        api = BatchApi(endpoint)
        try:
            states = [api.look(batch_id) for batch_id in self.batch_ids]
        finally:
            api.close()
        seen = "; ".join(f"{state.id} {state.status}, {state.done} of {state.asked}" for state in states)
        return not all(state.has_ended for state in states), seen
