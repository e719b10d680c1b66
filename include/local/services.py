"""Starts and stops what one machine needs: `python -m local.services up|down|status [--home DIR]`.

    crawl mirror    the sample crawl, laid out as the real one
    model server    the embedded model behind an OpenAI-compatible API
    Airflow         API server, scheduler, DAG processor, triggerer; SQLite; each a process of its own

Airflow's `standalone` is not used: it opens log servers to the whole network, and leaves children behind.
Everything listens on loopback. Addresses and login are kept in `run/services.json`, for the demo and the tests.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from local.airflow_api import AirflowApi
from local.airflow_objects import create_objects, wait_for_dags
from local.health import wait_healthy
from local.home import Home, find_home
from local.processes import NotRunning, end_processes, find_processes, read_record
from local.starting import PORTS, SERVICES, find_mirror, start_missing
from persona_hub.errors import HubError
from persona_hub.settings import PREFIX

USER = "admin"


@dataclass(frozen=True)
class Services:
    """Where everything answers. `settings`: the PERSONA_HUB_* variables that Airflow runs with."""

    api_url: str
    user: str
    password: str
    model_url: str
    mirror_url: str
    settings: dict[str, str]


def load_services(home: Home) -> Services:
    """What `up` wrote.

    Raises:
        NotRunning: nothing was started in this home.
    """
    try:
        return Services(**json.loads((home.run / "services.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise NotRunning(f"Nothing was started in {home.path}", wanted="running services", cure="make up") from None


def connect(services: Services) -> AirflowApi:
    """The client of this installation's Airflow."""
    return AirflowApi(services.api_url, services.user, services.password)


def up(home: Home, extra: Mapping[str, str] | None = None, say: Callable[[str], None] = print) -> Services:
    """Starts what does not run, waits until all is healthy, and creates connections and pools that are missing.

    Running already: nothing is done. A part that died, or other settings than Airflow runs with: that is restarted.

    Args:
        home: whose services.
        extra: settings on top of this process's own, as PERSONA_HUB_* variables.
        say: takes the lines of progress.

    Raises:
        SettingsError: a setting is unknown or out of range; nothing was started.
        NotRunning: a service did not become healthy; the message holds the end of its log.
    """
    settings = home.settings_environment(extra)
    home.make_folders()
    with _hold_lock(home):
        # No machine asks Common Crawl unbidden: `refresh_crawls` looks at our own mirror until it is told another.
        mirror_url = find_mirror(home, say)
        settings = {f"{PREFIX}CRAWL__SOURCE": mirror_url, **settings}
        env = home.process_environment(settings)
        started = time.monotonic()
        fresh = start_missing(home, env, settings, say)
        ports = {name: _port(home, name) for name in PORTS}
        wait_healthy(home, ports, started, say if fresh else _keep_quiet)
        services = Services(
            api_url=f"http://127.0.0.1:{ports['api-server']}",
            user=USER,
            password=_read_password(home),
            model_url=f"http://127.0.0.1:{ports['model']}/v1",
            mirror_url=mirror_url,
            settings=settings,
        )
        api = connect(services)
        create_objects(api, services.model_url)
        wait_for_dags(api)
        _write_private(home.run / "services.json", json.dumps(asdict(services), indent=1))
        if fresh:
            say(f"All healthy after {time.monotonic() - started:.0f} s")
    return services


def down(home: Home, say: Callable[[str], None] = print) -> None:
    """Ends everything that was started in this home or a home inside it, Spark drivers included, and checks it.

    Raises:
        NotRunning: something would not end.
    """
    found = find_processes(home, nested=True)
    killed = end_processes(found)
    if left := find_processes(home, nested=True):
        killed += end_processes(left)
        left = find_processes(home, nested=True)
    if left:
        raise NotRunning(f"Still there: {', '.join(str(process.pid) for process in left)}", wanted="no process of ours")
    for name in (*SERVICES, "services"):
        (home.run / f"{name}.json").unlink(missing_ok=True)
    ended = f"Ended {len(found)} processes" + (f", {killed} of them by force" if killed else "")
    say(ended if found else "Nothing was running")


def describe(home: Home) -> str:
    """One line per service, then the addresses."""
    lines = []
    for name in SERVICES:
        record = read_record(home, name)
        alive = record is not None and record.is_alive()
        where = f" on 127.0.0.1:{record.port}" if alive and record and record.port else ""
        lines.append(f"{name:<14} {'runs, process ' + str(record.pid) + where if alive and record else 'does not run'}")
    try:
        services = load_services(home)
    except NotRunning:
        return "\n".join(lines)
    return "\n".join([*lines, describe_login(services)])


def describe_login(services: Services) -> str:
    return f"Airflow: {services.api_url}   login: {services.user} / {services.password}"


def _port(home: Home, name: str) -> int:
    record = read_record(home, name)
    if record is None or record.port is None:
        raise NotRunning(f"{name} has no record in {home.run}", cure="make down, then make up")
    return record.port


def _read_password(home: Home) -> str:
    path = home.airflow / "simple_auth_manager_passwords.json.generated"
    try:
        return str(json.loads(path.read_text())[USER])
    except (OSError, ValueError, KeyError) as error:
        raise NotRunning(
            f"No password of {USER} in {path}: {error}", cure="make down, remove that file, make up"
        ) from error


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


def _keep_quiet(line: str) -> None:
    """Takes the lines that nobody wants."""


@contextmanager
def _hold_lock(home: Home) -> Iterator[None]:
    # Two `up` at once would start everything twice.
    with open(home.run / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.services", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--home", help="the installation's folder; .hub in the checkout if unset")
    chosen = parser.parse_args(arguments)
    home = find_home(chosen.home)
    try:
        if chosen.command == "up":
            print(describe_login(up(home)))
        elif chosen.command == "down":
            down(home)
        else:
            print(describe(home))
    except HubError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
