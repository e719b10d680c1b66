"""Drivers that are ended while they call: no answer is lost, and none is paid for twice. More ends: tests/soak.

The endpoint is a process of its own that counts truthfully; the second try runs in the tests' own session.
"""

from __future__ import annotations

import time

import pytest
from driver_process import ask_the_rest, kill_driver, terminate_group

COUNT, IN_FLIGHT = 96, 16  # of a second each


def wait_for_answers(endpoint, count: int) -> None:
    deadline = time.monotonic() + 90
    while endpoint.stats()["answered"] < count:
        assert time.monotonic() < deadline, "the driver never called"
        time.sleep(0.1)


@pytest.mark.parametrize("end", [kill_driver, terminate_group])
def test_a_driver_that_is_ended_has_its_last_answers_brought_home(spark, endpoint, tmp_path, start_driver, end) -> None:
    endpoint.control(latency_s=1.0)
    process = start_driver(endpoint.url, COUNT)
    wait_for_answers(endpoint, 2 * IN_FLIGHT)
    end(process)
    ask_the_rest(spark, endpoint.url, tmp_path / "home", COUNT)
    stats = endpoint.stats()
    assert stats["answered"] == stats["calls"] == COUNT, "not one call was sent again, not even those in flight"
