"""Kills that CI has no time for: workers, executors of a cluster, all at once, and drivers of the embedded model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver_process import (
    ask_the_rest,
    find_family,
    find_writers,
    kill_driver,
    kill_everything,
    read_command,
    read_spooled,
    terminate_group,
)

pytestmark = pytest.mark.timeout(900)
QUESTIONS = 24
COUNT, IN_FLIGHT = 96, 16  # of a second each


@pytest.fixture(scope="module")
def embedded_url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "local.model_server", "--port", str(port)])
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait()


@pytest.mark.parametrize("end", [kill_driver, terminate_group, kill_everything])
def test_the_embedded_models_answers_are_bought_once(spark, embedded_url, tmp_path: Path, start_driver, end) -> None:
    process = start_driver(embedded_url, QUESTIONS)
    home = tmp_path / "home"
    wait_until(lambda: len(read_spooled(home)) >= 6)
    end(process)
    # What was answered before the kill is the ledger's answer: it was not asked for again.
    ask_the_rest(spark, embedded_url, home, QUESTIONS)


def test_an_executor_that_is_killed_has_its_last_answers_brought_home(
    spark, endpoint, tmp_path: Path, start_driver
) -> None:
    """The questions that it held are gone with it, so the driver fails; Airflow would try again."""
    endpoint.control(latency_s=1.0)
    process = start_driver(endpoint.url, COUNT, "local-cluster[2,1,1024]")
    wait_until(lambda: endpoint.stats()["answered"] >= 32)
    executors = [child for child in find_family(process.pid) if "CoarseGrainedExecutorBackend" in read_command(child)]
    assert len(executors) == 2
    executors[0].kill()
    process.wait(300)
    ask_the_rest(spark, endpoint.url, tmp_path / "home", COUNT)
    stats = endpoint.stats()
    assert stats["answered"] == stats["calls"] == COUNT, "not one call was sent again, not even those in flight"


def test_when_everything_is_killed_only_what_flew_is_sent_again(spark, endpoint, tmp_path, start_driver) -> None:
    endpoint.control(latency_s=1.0)
    process = start_driver(endpoint.url, COUNT)
    wait_until(lambda: endpoint.stats()["answered"] >= 2 * IN_FLIGHT)
    kill_everything(process)
    ask_the_rest(spark, endpoint.url, tmp_path / "home", COUNT)
    assert endpoint.stats()["asked_again"] <= IN_FLIGHT


def test_a_worker_that_is_killed_costs_only_what_it_had_in_flight(spark, endpoint, tmp_path, start_driver) -> None:
    """Spark tries its task again by itself, beside one that goes on."""
    endpoint.control(latency_s=1.0)
    process = start_driver(endpoint.url, COUNT, "local[2,3]")
    wait_until(lambda: endpoint.stats()["answered"] >= 2 * IN_FLIGHT)
    writers = find_writers(tmp_path / "home")
    assert len(writers) == 2
    os.kill(writers[0], signal.SIGKILL)
    assert process.wait(120) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    assert endpoint.stats()["asked_again"] <= IN_FLIGHT / 2
    ask_the_rest(spark, endpoint.url, tmp_path / "home", COUNT)
    assert endpoint.stats()["asked_again"] <= IN_FLIGHT / 2, "nothing was left to ask"


def wait_until(condition) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
