"""Starts the services that do not run: which, on which ports, in which order."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from local.home import Home
from local.processes import (
    NotRunning,
    end_processes,
    find_processes,
    find_sessions,
    is_alive,
    pick_port,
    read_record,
    read_tail,
    start_process,
)

AIRFLOW_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
PORTS = {"mirror": 8088, "model": 8089, "api-server": 8080}
SERVICES = ("mirror", "model", *AIRFLOW_PARTS)


def find_mirror(home: Home, say: Callable[[str], None]) -> str:
    """Address of the crawl mirror: the one that runs, or the one that it will be started at."""
    record = read_record(home, "mirror")
    runs = record is not None and record.is_alive()
    port = record.port if runs and record else _choose_port(home, "mirror", say)
    return f"http://127.0.0.1:{port}"


def start_missing(home: Home, env: dict[str, str], settings: dict[str, str], say: Callable[[str], None]) -> bool:
    """Starts what is not alive; returns whether anything was started.

    Args:
        home: whose services.
        env: the environment that they get.
        settings: what Airflow shall run with; where it runs with others, it is restarted.
        say: takes the lines of progress.

    Raises:
        NotRunning: the mirror could not be built, or Airflow's database not made.
    """
    python, airflow = sys.executable, str(Path(sys.prefix) / "bin" / "airflow")
    dead = {name for name in SERVICES if not is_alive(home, name)}
    changed = _settings_changed(home, settings) and not dead & set(AIRFLOW_PARTS)
    # The parts of Airflow know each other's addresses and settings: they start and end together.
    if changed or dead & set(AIRFLOW_PARTS):
        if changed:
            say("Airflow runs with other settings: restarting it")
        elif not set(AIRFLOW_PARTS) <= dead:
            say(f"Of Airflow, {', '.join(sorted(dead & set(AIRFLOW_PARTS)))} had ended: restarting all of it")
        dead |= set(AIRFLOW_PARTS)
    _end_services(home, dead)
    ports = {name: _choose_port(home, name, say) for name in PORTS if name in dead}
    if "mirror" in dead:
        _run_once(home, "mirror-build", [python, "-m", "local.mirror", "build", "--out", str(home.mirror)], env)
        command = [python, "-m", "local.mirror", "serve", "--folder", str(home.mirror), "--port", str(ports["mirror"])]
        start_process(home, "mirror", command, env, ports["mirror"])
    if "model" in dead:
        start_process(
            home, "model", [python, "-m", "local.model_server", "--port", str(ports["model"])], env, ports["model"]
        )
    if "api-server" in dead:
        say("Starting Airflow, about 20 s")
        port = ports["api-server"]
        env = {
            **env,
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        }
        _migrate_database(home, airflow, env)
        for part in AIRFLOW_PARTS:
            # Log servers listen on all interfaces; on one machine the API server reads the files themselves.
            flags = ["--skip-serve-logs"] if part in ("scheduler", "triggerer") else []
            start_process(home, part, [airflow, part, *flags], env, port if part == "api-server" else None)
        (home.run / "airflow-settings.json").write_text(json.dumps(settings))
    return bool(dead)


def _migrate_database(home: Home, airflow: str, env: dict[str, str]) -> None:
    # Four seconds of each start, so only once per version of Airflow.
    stamp, version = home.airflow / "migrated", metadata.version("apache-airflow-core")
    if not (home.airflow / "airflow.db").exists() or not stamp.exists() or stamp.read_text() != version:
        _run_once(home, "airflow-migrate", [airflow, "db", "migrate"], env)
        stamp.write_text(version)


def _end_services(home: Home, names: set[str]) -> None:
    """Ends what is left of these; with Airflow also the drivers of its tasks, which have sessions of their own."""
    of_names, of_others = find_sessions(home, names), find_sessions(home, {"mirror", "model"} - names)
    whole = bool(names & set(AIRFLOW_PARTS))
    ending = []
    for process in find_processes(home):
        with contextlib.suppress(ProcessLookupError):
            session = os.getsid(process.pid)
            if session in of_names or (whole and session not in of_others):
                ending.append(process)
    end_processes(ending)
    for name in names:
        (home.run / f"{name}.json").unlink(missing_ok=True)


def _choose_port(home: Home, name: str, say: Callable[[str], None]) -> int:
    # The one it had before comes first: addresses are in browsers and in the crawl calendar.
    kept = home.run / "ports.json"
    ports: dict[str, int] = json.loads(kept.read_text()) if kept.exists() else {}
    wanted = ports.get(name, PORTS[name])
    found = pick_port(wanted, [port for other, port in ports.items() if other != name])
    if found != wanted:
        say(f"Port {wanted} is taken: {name} listens on {found}")
    kept.write_text(json.dumps({**ports, name: found}))
    return found


def _run_once(home: Home, name: str, command: list[str], env: dict[str, str]) -> None:
    log = home.logs / f"{name}.log"
    with open(log, "wb") as out:
        code = subprocess.run(command, env=env, cwd=home.path, stdout=out, stderr=out, check=False).returncode
    if code:
        raise NotRunning(f"{name} failed with {code}; its log {log} ends with:\n{read_tail(log)}")


def _settings_changed(home: Home, settings: dict[str, str]) -> bool:
    try:
        return bool(json.loads((home.run / "airflow-settings.json").read_text()) != settings)
    except (OSError, ValueError):
        return True
