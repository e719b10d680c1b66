"""Batch mode: what is pending is sent as files, at the batch discount, and the answers come back to the spool.

    pending ──► frozen ──► uploaded ──► asked for ──► submitted ──► ended: answers to the spool ──► closed

Each step is on the disk before the next one (llm/batch_store.py), so whoever comes after a crash goes on from there.
Only one step costs: asking for the batch. It is sent once; where its answer was lost, the batch is looked for among
those that the endpoint has, by our mark in its metadata, and asked for again only when it is not there. It is asked for
only where its likely money and all that is spent, open batches of all stages included, pass no line of the budget.

Nothing here folds: the stage that follows does, as after a killed run of its own, and knows nothing of batches. Lines
of a batch that expired, was cancelled or failed for a while stay pending, and that stage asks them by calls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from persona_hub.errors import BudgetReached, ModelMisconfigured, ModelUnavailable, SettingsError
from persona_hub.llm.batch_api import BatchApi, BatchState, LostReply, NoRoom
from persona_hub.llm.batch_results import Harvest, read_line, write_results
from persona_hub.llm.batch_store import BatchStore, Intent
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Request
from persona_hub.llm.spending import check_room
from persona_hub.llm.spool import SpoolWriter, spool_folder
from persona_hub.settings import BatchSettings, BudgetSettings, LlmSettings
from persona_hub.tables.lease import Lease, hold_lease

log = logging.getLogger(__name__)
# For how long a batch whose answer was lost may take to appear among the endpoint's.
APPEARS_S = 30.0


class Batches:
    """The batches of one stage over one slice. Made by `open_batches`.

    All methods raise ModelUnavailable or ModelMisconfigured, and can then be called again.
    """

    def __init__(
        self,
        lake: str,
        store: BatchStore,
        spool: Path,
        api: BatchApi,
        limits: BatchSettings,
        budget: BudgetSettings,
        lease: Lease,
    ) -> None:
        self._lake, self._store, self._spool, self._api = lake, store, spool, api
        self._limits, self._budget, self._lease = limits, budget, lease

    def freeze(
        self,
        requests: Iterator[Request],
        fields: dict[str, str],
        features: tuple[str, ...],
        money_each: float | None = None,
    ) -> None:
        """Writes down what is to be asked for.

        Args:
            requests: what is pending; what lies in a batch that was asked for is left out.
            fields: columns that all their ledger rows share (`SpoolWriter`).
            features: what the endpoint can do.
            money_each: that one request will likely cost in a batch; None where the model has no price.
        """
        self._store.discard_unasked()
        self._list_open()
        self._store.freeze(requests, self._api.address, fields, features, self._limits, money_each)

    def submit(self) -> list[str]:
        """Sees to it that each open intent is one batch at the endpoint, as far as provider and budget have room.

        Returns:
            ids of the batches to wait for.

        Raises:
            NoRoom, BudgetReached: not for a single one, and there is none to wait for.
            LeaseLost: somebody else has taken over.
        """
        for intent in self._list_open():
            if intent.batch_id:
                continue
            try:
                self._submit(intent)
            except (NoRoom, BudgetReached) as error:
                if not self._list_submitted():
                    raise
                log.info("waiting for the others first: %s", error)
                break
        return self._list_submitted()

    def collect(self, find_price: Callable[[str], Price | None]) -> Harvest:
        """Brings the answers of all batches that have ended to the spool; a repeat changes nothing that counts.

        Args:
            find_price: of a model: the one that was asked, whatever the settings say by now.
        """
        harvest = Harvest()
        for intent in self._list_open():
            if intent.batch_id is None:
                continue
            try:
                batch = self._api.look(intent.batch_id)
            except ModelMisconfigured as error:  # gone, perhaps; the others are not
                harvest.faults.append(error)
                continue
            if not batch.has_ended:
                continue
            if batch.files or batch.status != "failed":
                self._bring_home(intent, batch, find_price(intent.fields["model"]), harvest)
            elif batch.no_room:  # refused as a whole, so nothing was billed
                harvest.no_room += 1
                refused = replace(intent, asked_at=None, batch_id=None, refusals=intent.refusals + 1)
                self._store.save(refused)
            else:
                found = f"The model endpoint {self._api.address} refused batch {batch.id}: {batch.problems}"
                harvest.faults.append(ModelMisconfigured(found, cure="mend what it names, then run the task again"))
                self._store.close(replace(intent, outcome=f"failed: {batch.problems}"))
        return harvest

    def _list_submitted(self) -> list[str]:
        return [intent.batch_id for intent in self._list_open() if intent.batch_id]

    def _list_open(self) -> list[Intent]:
        found = self._store.list_open()
        for intent in found:
            if intent.address != self._api.address:
                raise SettingsError(
                    f"Batch {intent.batch_id or intent.id} belongs to {intent.address}",
                    wanted=f"it to end there before this stage asks {self._api.address} in batches",
                    cure=f"set that address until then, or give the batch up: remove {self._store.folder}/{intent.id}.*",
                )
        return found

    def _submit(self, intent: Intent) -> None:
        if intent.file_id is None:
            intent = replace(intent, file_id=self._api.upload(self._store.requests_file(intent.id)))
            self._store.save(intent)
        batch = self._find_lost(intent, intent.asked_at) if intent.asked_at else None
        if batch is None:
            with hold_lease(self._lake, "batches/asking"):  # whoever asks next sees what this one may cost
                if intent.asked_at is None:  # else it counts already
                    check_room(self._lake, self._budget, intent)
                self._lease.verify()
                intent = replace(intent, asked_at=time.time())
                self._store.save(intent)
            batch = self._ask(intent)
        self._store.save(replace(intent, batch_id=batch.id))
        log.info("batch %s: %d requests, submitted", batch.id, intent.requests)

    def _ask(self, intent: Intent) -> BatchState:
        assert intent.file_id
        try:
            return self._api.create(intent.file_id, intent.mark, self._limits.window)
        except LostReply as error:
            log.warning("%s; looking for the batch", error)
            if batch := self._find_lost(intent, time.time()):
                return batch
            raise ModelUnavailable(
                f"{error} No batch of this intent ({intent.id}) is there",
                cure="run the task again: the batch is looked for once more before it is asked for again",
            ) from None
        except (NoRoom, ModelMisconfigured):  # it was not made
            self._store.save(replace(intent, asked_at=None))
            raise

    def _find_lost(self, intent: Intent, asked_at: float) -> BatchState | None:
        pause = 0.5
        while (batch := self._api.find(intent.mark, asked_at)) is None and time.time() < asked_at + APPEARS_S:
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
        return batch

    def _bring_home(self, intent: Intent, batch: BatchState, price: Price | None, harvest: Harvest) -> None:
        writer = SpoolWriter(self._spool, intent.fields, price, batch=True, name="batch")
        try:
            results = (read_line(line, self._api.secrets) for line in self._fetch_lines(intent, batch))
            name = f"batch {batch.id} at {self._api.address}"
            harvest.add(write_results(results, self._store.read_keys(intent), writer, name), writer.money)
            writer.sync()
        finally:
            writer.close()
        self._store.close(replace(intent, outcome=batch.status))

    def _fetch_lines(self, intent: Intent, batch: BatchState) -> Iterator[bytes]:
        """Line by line, but only of files that came whole."""
        for file_id in batch.files:
            target = self._store.folder / f"{intent.id}.results"
            self._api.fetch(file_id, target)
            with target.open("rb") as lines:  # not by the package: it would end a line at U+2028, too
                yield from lines
            target.unlink()


@contextmanager
def open_batches(
    lake: str,
    slice_key: str,
    stage: str,
    data_type: str,
    endpoint: LlmSettings,
    limits: BatchSettings,
    budget: BudgetSettings,
) -> Iterator[Batches]:
    """Holds the stage's lease, so that no other run asks, freezes or spools meanwhile.

    Raises:
        LeaseHeld: somebody else still works on this stage and slice.
    """
    store = BatchStore(lake, slice_key, stage, data_type)
    with hold_lease(lake, f"run/{stage}/{slice_key}/{data_type}") as lease:
        api = BatchApi(endpoint)
        try:
            spool = spool_folder(lake, slice_key, stage, data_type)
            yield Batches(lake, store, spool, api, limits, budget, lease)
        finally:
            api.close()
