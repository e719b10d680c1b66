"""The calls themselves, on the executors: requests in, answers in the spool, one row of counts out per partition.

A partition never raises for what a call can end with. It says so in its row, and in a file `stop` beside the spool, by
which the other partitions send no more, wait for what flies, and end well: an error of one loses no answer of another.
The same is done where the driver, the worker's parent or the machine's operator ends the worker with a signal.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_hub.core.background import repeat
from persona_hub.errors import HubError, LakeError
from persona_hub.llm.admission import open_admission
from persona_hub.llm.pricing import Price
from persona_hub.llm.progress import describe_calls, write_status
from persona_hub.llm.requests import Request
from persona_hub.llm.spool import SpoolWriter, read_spool, wait_for_writers
from persona_hub.llm.stream import Calling
from persona_hub.settings import BudgetSettings, LlmSettings

LOOK_S = 0.25
STATUS_S = 1.0
STOP = "stop"
RESULT = "stats STRING, error STRING, found STRING, wanted STRING, cure STRING"


@dataclass(frozen=True)
class CallPlan:
    """What every partition of one stage needs to know.

    Attributes:
        folder: of the stage's spool.
        fields: columns that are the same in every ledger row (`SpoolWriter`).
        stage: slice, stage and data type, for the budget per stage.
    """

    lake: str
    folder: Path
    fields: dict[str, str]
    endpoint: LlmSettings
    features: tuple[str, ...]
    price: Price | None
    budget: BudgetSettings
    stage: str


def make_partition_caller(plan: CallPlan) -> Callable[[Iterator[dict[str, Any]]], Iterable[dict[str, Any]]]:
    """The function for `map_rows`: rows with completion_key and request in, one row of RESULT out."""

    def call(rows: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        from pyspark import TaskContext

        context = TaskContext.get()
        yield call_partition(plan, rows, f"p{context.partitionId() if context else 0:05d}")

    return call


def call_partition(plan: CallPlan, rows: Iterator[dict[str, Any]], name: str) -> dict[str, Any]:
    """Asks what an earlier try of this very partition has not had answered.

    Returns:
        a row of RESULT; `stats` is JSON of `CallStats` and why it stopped early, if so.
    """
    wait_for_writers(plan.folder, 2 * plan.endpoint.timeout_s, f"{name}-")
    answered = {row["completion_key"] for row in read_spool(plan.folder, f"{name}-")[0]}
    writer = SpoolWriter(plan.folder, plan.fields, plan.price, name=name)
    admission = open_admission(
        plan.lake, plan.endpoint, plan.budget, plan.price, run_id=plan.fields["run_id"], stage=plan.stage
    )
    calling = Calling(plan.endpoint, plan.features, writer.write, admission)
    result: dict[str, Any] = dict.fromkeys(("error", "found", "wanted", "cure"))
    requests = (Request.from_json(row["request"]) for row in rows if row["completion_key"] not in answered)
    if (plan.folder / STOP).exists():
        calling.request_stop("another partition, or the driver, said stop")
    try:
        with _watch(plan, calling, writer):
            for _ in calling.answer_all(requests):
                pass
    except (HubError, OSError) as raised:
        _tell_others(plan.folder, type(raised).__name__)
        error = raised if isinstance(raised, HubError) else _explain(raised, writer.path)
        result |= {"error": type(error).__name__, "found": error.found, "wanted": error.wanted, "cure": error.cure}
    except BaseException as error:
        _tell_others(plan.folder, type(error).__name__)
        raise
    finally:
        if admission:
            admission.close()
        writer.close()
    return result | {"stats": json.dumps(describe_calls(writer, calling.stats))}


def _explain(error: OSError, path: Path) -> LakeError:
    return LakeError(
        f"An answer cannot be kept in {path}: {error}",
        wanted="room and rights in the spool",
        cure="make room, then run the task again; what was kept before is not asked again",
    )


def _tell_others(folder: Path, why: str) -> None:
    with suppress(OSError):
        (folder / STOP).write_text(why)


@contextmanager
def _watch(plan: CallPlan, calling: Calling, writer: SpoolWriter) -> Iterator[None]:
    """Stops the calls when somebody says so, and says every second how they go."""
    parent = os.getppid()

    def look() -> None:
        if os.getppid() != parent:
            calling.request_stop("the process that started this one is gone")
        elif (plan.folder / STOP).exists():
            calling.request_stop("another partition, or the driver, said stop")

    def tell() -> None:
        with suppress(OSError):  # a full disk; the next answer says so
            writer.sync()
            write_status(writer, calling.stats)

    def stop(number: int, frame: object) -> None:
        calling.request_stop(f"signal {signal.Signals(number).name}")

    # Spark's daemon ends its workers with SIGHUP when the JVM is gone, by whatever it died.
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in (signal.SIGHUP, signal.SIGTERM)} if in_main else {}
    try:
        with repeat(look, LOOK_S, "call watch"), repeat(tell, STATUS_S, "call status"):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(OSError):
            write_status(writer, calling.stats)
