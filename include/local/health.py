"""Waits until every service answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import httpx

from local.home import Home
from local.processes import NotRunning, is_alive, read_tail
from local.starting import SERVICES

START_TIMEOUT_S = 180.0


def wait_healthy(home: Home, ports: Mapping[str, int], started: float, say: Callable[[str], None]) -> None:
    """Tells each service's becoming healthy.

    Args:
        home: whose services.
        ports: of mirror, model and api-server.
        started: `time.monotonic()` of the beginning, seconds.
        say: takes the lines of progress.

    Raises:
        NotRunning: one ended, or does not answer in time; the message holds the end of its log.
    """
    waiting: dict[str, Callable[[], bool]] = {
        "mirror": lambda: _answers(f"http://127.0.0.1:{ports['mirror']}/"),
        "model": lambda: _answers(f"http://127.0.0.1:{ports['model']}/v1/models", ok=True),
        "Airflow": lambda: _airflow_is_healthy(ports["api-server"]),
    }
    while waiting:
        for name in [name for name, check in waiting.items() if check()]:
            del waiting[name]
            say(f"  {name} is healthy after {time.monotonic() - started:.0f} s")
        for name in SERVICES:
            if not is_alive(home, name):
                raise NotRunning(f"{name} ended at once; its log ends with:\n{read_tail(home.logs / f'{name}.log')}")
        if waiting and time.monotonic() - started > START_TIMEOUT_S:
            raise NotRunning(
                f"{', '.join(waiting)} not healthy within {START_TIMEOUT_S:.0f} s",
                cure=f"look into {home.logs}, then make down and make up",
            )
        time.sleep(0.5 if waiting else 0)


def _airflow_is_healthy(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5, trust_env=False)
        parts = answer.json()
    except (httpx.HTTPError, ValueError):
        return False
    return all(
        parts[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
    )


def _answers(url: str, ok: bool = False) -> bool:
    try:
        answer = httpx.get(url, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.is_success or not ok
