"""What people and machines do to a running Airflow while it buys answers: nothing is paid for twice."""

from __future__ import annotations

import time

import pytest

from local.services import down, up
from persona_hub.stages import EXTRACT
from persona_hub.tables.silver import COMPLETIONS

PERSONAS, TASKS = "extract_personas", "synthesize_tasks"
PAGES = 60
PERSONA = "A gardener who sells tomatoes at the market and teaches schoolchildren how to grow squash"

pytestmark = pytest.mark.timeout(1800)


def test_marked_failed_cleared_and_restarted_in_mid_batch(hub, endpoint) -> None:
    endpoint.control(latency_s=2.0, answer=PERSONA)
    run_id = hub.api.trigger_run(PERSONAS, hub.key)
    path = f"/dags/{PERSONAS}/dagRuns/{run_id.replace('+', '%2B')}/taskInstances/{EXTRACT}"
    wait_until(lambda: endpoint.stats()["answered"] >= 16, 300)
    hub.api.call("PATCH", path, json={"new_state": "failed"})
    assert hub.api.wait_for_run(PERSONAS, run_id) == "failed"
    calls = endpoint.stats()["calls"]
    assert 16 <= calls < PAGES
    hub.api.call(
        "POST", f"/dags/{PERSONAS}/clearTaskInstances",
        json={"dry_run": False, "dag_run_id": run_id, "task_ids": [EXTRACT], "include_downstream": True,
              "only_failed": False, "reset_dag_runs": True},
    )  # fmt: skip
    assert hub.api.wait_for_run(PERSONAS, run_id) == "success"
    stats = endpoint.stats()
    assert stats["answered"] == stats["calls"] == PAGES, "what flew when the task was marked was brought home"
    assert len(hub.read(COMPLETIONS)) == PAGES

    # The samples are asked in batches: one for each data type.
    endpoint.control(batch_s=60.0)
    follower = hub.api.find_new_run(TASKS, hub.key, set())
    wait_until(lambda: count_deferred(hub, follower) >= 1, 300)
    down(hub.home, say=lambda *_: None)
    up(hub.home, {name: value for name, value in hub.services.settings.items() if name != "PERSONA_HUB_HOME"})
    endpoint.control(batch_s=1.0)
    assert hub.api.wait_for_run(TASKS, follower) == "success"
    stats = endpoint.stats()
    assert stats["calls"] == PAGES, "no sample was asked for by a call"
    assert stats["batch_lines_answered"] == len(hub.read(COMPLETIONS)) - PAGES == 6
    assert stats["duplicates"] == 0


def count_deferred(hub, run_id: str) -> int:
    return sum(task.state == "deferred" for task in hub.api.list_tasks(TASKS, run_id))


def wait_until(condition, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)
