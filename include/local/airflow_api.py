"""A small client of Airflow's REST API, for the demo and the end-to-end tests.

AirflowError(HubError)   the API refused, or a run did not come or end in time; the message carries its answer
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from persona_hub.errors import HubError

FINAL_RUN_STATES = ("success", "failed")
PAGE_SIZE = 100


class AirflowError(HubError):
    """The API refused, or a run did not come or end in time."""


@dataclass(frozen=True)
class TaskState:
    """One task instance as it stands. `label` tells mapped ones apart; `seconds` is None until it ran."""

    task_id: str
    label: str
    map_index: int
    state: str | None
    try_number: int
    seconds: float | None


class AirflowApi:
    """Calls as the generated admin; asks for a new token when the old one has run out."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url, self._user, self._password = url.rstrip("/"), user, password
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def fetch_token(self) -> str:
        """Signs in.

        Raises:
            AirflowError: user or password is refused.
        """
        answer = self._client.post("/auth/token", json={"username": self._user, "password": self._password})
        if answer.status_code != 201:
            raise AirflowError(
                f"Airflow at {self.url} refused the login ({answer.status_code} {answer.text[:200]})",
                cure="make down, then make up",
            )
        return str(answer.json()["access_token"])

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One call below `/api/v2`; returns the JSON, or None where there is none.

        Raises:
            AirflowError: the API is not there or answers 400 and more.
        """
        try:
            answer = self._client.request(method, f"/api/v2{path}", **arguments)
            if answer.status_code == 401:
                self._client.headers["Authorization"] = f"Bearer {self.fetch_token()}"
                answer = self._client.request(method, f"/api/v2{path}", **arguments)
        except httpx.HTTPError as error:
            raise AirflowError(f"Airflow at {self.url} does not answer ({error!r})", cure="make up") from error
        if answer.is_error:
            raise AirflowError(f"Airflow refused {method} {path}: {answer.status_code} {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def exists(self, path: str) -> bool:
        """Whether a GET finds something."""
        try:
            self.call("GET", path)
        except AirflowError as error:
            if " 404 " in error.found:
                return False
            raise
        return True

    def list_all(self, path: str, field: str, **params: Any) -> Iterator[dict[str, Any]]:
        """All items of a collection, page by page."""
        offset = 0
        while True:
            page = self.call("GET", path, params={**params, "limit": PAGE_SIZE, "offset": offset})
            yield from page[field]
            offset += PAGE_SIZE
            if offset >= page["total_entries"]:
                return

    def list_runs(self, dag_id: str, partition_key: str) -> list[dict[str, Any]]:
        """Runs of a DAG under one partition key, oldest first."""
        runs = self.list_all(
            f"/dags/{dag_id}/dagRuns", "dag_runs", partition_key_prefix_pattern=partition_key, order_by="run_after"
        )
        return [run for run in runs if run["partition_key"] == partition_key]

    def trigger_run(self, dag_id: str, partition_key: str | None, conf: dict[str, Any] | None = None) -> str:
        """Starts a run for a key; returns its run id.

        Raises:
            AirflowError: the key or the configuration is refused; the message holds the DAG's own words.
        """
        body = {"logical_date": None, "partition_key": partition_key, "conf": conf or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def find_new_run(self, dag_id: str, partition_key: str, known: set[str], timeout_s: float = 120) -> str:
        """Waits for a run under the key that is not among `known` run ids: the one that an asset started.

        Raises:
            AirflowError: none came in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for run in self.list_runs(dag_id, partition_key):
                if run["dag_run_id"] not in known:
                    return str(run["dag_run_id"])
            time.sleep(1)
        raise AirflowError(
            f"No run of {dag_id} under {partition_key} came within {timeout_s:.0f} s",
            wanted="a run started by the asset that the run before it updated",
            cure="look at the scheduler's log, and whether the DAG is paused",
        )

    def list_tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """All task instances of a run, mapped ones each."""
        found = self.list_all(f"{_run_path(dag_id, run_id)}/taskInstances", "task_instances")
        return [_read_task(item) for item in found]

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        on_change: Callable[[TaskState], None] = lambda task: None,
        *,
        timeout_s: float = 1800,
    ) -> str:
        """Follows a run to its end; tells `on_change` each task's every new state. Returns `success` or `failed`.

        Raises:
            AirflowError: it did not end in time.
        """
        seen: dict[tuple[str, int], tuple[str | None, int]] = {}
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            # The run first: when it has ended, the tasks read after it are in their final state.
            state = self.call("GET", _run_path(dag_id, run_id))["state"]
            for task in self.list_tasks(dag_id, run_id):
                where, now = (task.task_id, task.map_index), (task.state, task.try_number)
                if seen.get(where) != now:
                    seen[where] = now
                    on_change(task)
            if state in FINAL_RUN_STATES:
                return str(state)
            time.sleep(1)
        raise AirflowError(
            f"Run {run_id} of {dag_id} did not end within {timeout_s:.0f} s", cure=f"look at it at {self.url}"
        )

    def read_log(self, dag_id: str, run_id: str, task: TaskState) -> list[str]:
        """A task's log of its last try, one event a line, without colours and time stamps."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{task.try_number}"
        params = {"map_index": task.map_index, "full_content": "true"}
        content = self.call("GET", path, params=params, headers={"Accept": "application/json"})["content"]
        return [line for item in content for line in _read_event(item)]


def _run_path(dag_id: str, run_id: str) -> str:
    # A run id holds times with + and :, which a path must not show as they are.
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _read_task(item: dict[str, Any]) -> TaskState:
    label = item.get("rendered_map_index") or (str(item["map_index"]) if item["map_index"] >= 0 else "")
    return TaskState(
        item["task_id"], str(label), item["map_index"], item["state"], item["try_number"], item["duration"]
    )


def _read_event(item: dict[str, Any] | str) -> Iterator[str]:
    if isinstance(item, str):
        yield item
        return
    yield str(item.get("event", ""))
    for error in item.get("error_detail") or []:
        yield f"{error.get('exc_type')}: {error.get('exc_value')}"
