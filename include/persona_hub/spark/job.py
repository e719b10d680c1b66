"""What every Spark job shares: its arguments, settings, session, lease, and the counting of its stages."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PythonException
from pyspark.sql import SparkSession

from persona_hub import errors
from persona_hub.core.keys import parse_slice_key
from persona_hub.errors import HOPELESS, HubError
from persona_hub.settings import Settings, load_settings
from persona_hub.synthesis import registry
from persona_hub.tables.counts import StageCount, write_count
from persona_hub.tables.lease import hold_lease

log = logging.getLogger("persona_hub")


@dataclass
class Tally:
    """What a stage counts while it runs."""

    rows_in: int = 0
    rows_out: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    from_ledger: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float | None = None
    seconds: float | None = None
    """Its own time, where stages run side by side; else that from its start to its end."""


@dataclass(frozen=True)
class Job:
    """One run of one job over one slice."""

    name: str
    slice: str
    run_id: str
    attempt: int
    data_type: str
    settings: Settings
    spark: SparkSession

    @property
    def lake(self) -> str:
        return self.settings.lake

    @contextmanager
    def stage(self, name: str) -> Iterator[Tally]:
        """Times a stage, logs it and writes its row of the funnel; a stage that fails writes none."""
        started, clock, tally = datetime.now(UTC), time.monotonic(), Tally()
        log.info("%s %s: start", name, self.data_type or self.slice)
        yield tally
        count = StageCount(
            slice=self.slice,
            stage=name,
            data_type=self.data_type,
            run_id=self.run_id,
            attempt=self.attempt,
            started_at=started,
            **vars(tally) | {"seconds": time.monotonic() - clock if tally.seconds is None else tally.seconds},
        )
        write_count(self.lake, count)
        log.info(
            "%s %s: %d in, %d out, removed %s, %.1f s, %d calls (%d from the ledger)",
            *(name, self.data_type or self.slice, count.rows_in, count.rows_out, count.removed or "none"),
            *(count.seconds, count.calls, count.from_ledger),
        )


WHOLE_HUB = "all"
"""In place of a slice, for jobs that work on all of them."""


def run_job(
    main: Callable[..., None], argv: list[str] | None = None, options: dict[str, dict[str, Any]] | None = None
) -> None:
    """Runs a job's function: the only entry of every file in spark_jobs/.

    One run per job, slice and data type at a time: a lease that dies with its driver says who holds it.
    An error of ours ends the process with one line that says what was found, wanted and what to do.

    Args:
        options: of a job of the whole hub: name → arguments of `add_argument`; `main` gets their values by name.
    """
    arguments, given = _parse_arguments(argv, options)
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    signal.signal(signal.SIGTERM, _exit_on_signal)
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), name="orphan watch", daemon=True).start()
    try:
        settings = load_settings()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(name)s: %(message)s", stream=sys.stdout)
        for chatty in ("py4j", "great_expectations", "sentence_transformers", "httpx2", "httpx"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        if arguments.slice != WHOLE_HUB:
            parse_slice_key(arguments.slice)
        if arguments.type:
            registry.get(arguments.type)
        with hold_lease(settings.lake, f"run/{name}/{arguments.slice}/{arguments.type}"):
            spark = SparkSession.builder.appName(f"{name} {arguments.slice} {arguments.type}".strip()).getOrCreate()
            job = Job(name, arguments.slice, arguments.run, arguments.attempt, arguments.type, settings, spark)
            main(job, **given)
            spark.stop()
    except HubError as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(1 if error.retry_helps else HOPELESS)
    except (PythonException, Py4JJavaError) as error:
        if not (ours := _find_worker_error(str(error))):
            raise
        kind, message = ours
        log.error("on an executor: %s: %s", kind.__name__, message)
        sys.exit(1 if kind.retry_helps else HOPELESS)


def _find_worker_error(trace: str) -> tuple[type[HubError], str] | None:
    """Our own error in what Spark tells of a worker's: the page-long trace around it says nothing more."""
    found = re.findall(r"persona_hub\.errors\.(\w+): (.*)", trace)
    return (getattr(errors, found[-1][0]), found[-1][1]) if found else None


def _parse_arguments(
    argv: list[str] | None, options: dict[str, dict[str, Any]] | None
) -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = argparse.ArgumentParser()
    if options is None:
        parser.add_argument("--slice", required=True, help="partition key, as in CC-MAIN-2026-30/00012")
    else:
        parser.set_defaults(slice=WHOLE_HUB)
    parser.add_argument("--run", required=True, help="Airflow's run id")
    parser.add_argument("--attempt", type=int, default=1, help="Airflow's try number")
    parser.add_argument("--type", default="", help="data type, for jobs of one")
    own = [parser.add_argument(f"--{name.replace('_', '-')}", **kwargs).dest for name, kwargs in (options or {}).items()]
    arguments = parser.parse_args(argv)
    return arguments, {name: getattr(arguments, name) for name in own}


def _die_with_parent(parent: int) -> None:
    """A driver whose JVM was killed would go on here, holding leases, until it next calls into it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # unwinds: leases are given back, what is in flight comes home
