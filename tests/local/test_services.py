"""Ports, records and ending: with real processes, without Airflow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from local.home import MARKER, Home
from local.processes import NotRunning, end_processes, find_processes, pick_port, read_record, start_process
from local.services import describe, down, load_services, up
from local.starting import find_mirror
from persona_hub.errors import SettingsError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def home(tmp_path: Path):
    home = Home(tmp_path / "hub")
    home.make_folders()
    yield home
    end_processes(find_processes(home, nested=True), grace_s=1)


def listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_a_free_port_is_the_preferred_one():
    with listen() as listener:
        port = listener.getsockname()[1]
    assert pick_port(port) == port


def test_a_taken_port_gives_another():
    with listen() as listener:
        taken = listener.getsockname()[1]
        found = pick_port(taken)
    assert found != taken
    assert found > 0


def test_a_port_promised_to_another_service_is_not_given_twice():
    with listen() as listener:
        promised = listener.getsockname()[1]
    assert pick_port(promised, [promised]) != promised


def test_services_that_were_never_started_are_an_error_with_a_cure(home: Home):
    with pytest.raises(NotRunning, match="make up"):
        load_services(home)


def test_services_are_read_as_they_were_written(home: Home):
    written = {
        "api_url": "http://127.0.0.1:1",
        "user": "admin",
        "password": "p",
        "model_url": "m",
        "mirror_url": "c",
        "settings": {},
    }
    (home.run / "services.json").write_text(json.dumps(written))
    found = load_services(home)
    assert (found.api_url, found.user, found.password, found.model_url, found.mirror_url) == (
        "http://127.0.0.1:1",
        "admin",
        "p",
        "m",
        "c",
    )


def test_down_on_nothing_says_so(home: Home):
    said: list[str] = []
    down(home, said.append)
    assert said == ["Nothing was running"]


def test_down_ends_a_service_and_what_went_into_a_session_of_its_own(home: Home):
    env = {**os.environ, MARKER: str(home.path)}
    record = start_process(home, "mirror", SLEEP, env, 1234)
    driver = subprocess.Popen(SLEEP, env=env, start_new_session=True)
    said: list[str] = []
    down(home, said.append)
    driver.wait(timeout=5)
    assert said == ["Ended 2 processes"]
    assert not psutil.pid_exists(record.pid) or psutil.Process(record.pid).status() == psutil.STATUS_ZOMBIE
    assert read_record(home, "mirror") is None


def test_down_leaves_the_processes_of_another_home_alone(home: Home, tmp_path: Path):
    other = subprocess.Popen(SLEEP, env={**os.environ, MARKER: str(tmp_path / "other")}, start_new_session=True)
    try:
        down(home, lambda line: None)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_down_ends_homes_inside_its_own(home: Home):
    inner = subprocess.Popen(SLEEP, env={**os.environ, MARKER: str(home.path / "e2e")}, start_new_session=True)
    down(home, lambda line: None)
    inner.wait(timeout=5)
    assert find_processes(home, nested=True) == []


def test_what_ignores_the_gentle_end_is_killed(home: Home):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    start_process(home, "model", [sys.executable, "-c", stubborn], {**os.environ, MARKER: str(home.path)}, None)
    while "ready" not in (home.logs / "model.log").read_text():
        time.sleep(0.05)
    assert end_processes(find_processes(home), grace_s=0.5) == 1
    assert find_processes(home) == []


def test_a_process_id_that_was_given_anew_is_not_ours(home: Home):
    (home.run / "mirror.json").write_text(json.dumps({"pid": os.getpid(), "created": 1.0, "port": 1}))
    record = read_record(home, "mirror")
    assert record is not None
    assert not record.is_alive()
    assert find_processes(home) == []


def test_a_broken_record_counts_as_none(home: Home):
    (home.run / "mirror.json").write_text("{")
    assert read_record(home, "mirror") is None
    assert "mirror         does not run" in describe(home)


def test_a_wrong_setting_stops_before_anything_starts(home: Home):
    with pytest.raises(SettingsError, match="PERSONA_HUB_LAKES"):
        up(home, {"PERSONA_HUB_LAKES": "x"})
    assert not (home.run / "ports.json").exists()


def test_a_second_home_shares_jars_and_class_data(home: Home):
    assert [os.readlink(home.path / name).rsplit("/", 1)[-1] for name in ("jars", "cds")] == ["jars", "cds"]


def test_processes_get_loopback_and_no_stray_airflow_settings(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "somebody's")
    env = home.process_environment(home.settings_environment({}))
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert env["PERSONA_HUB_HOME"] == str(home.path)
    assert "AIRFLOW__CORE__FERNET_KEY" not in env


def test_mirror_keeps_its_address_whether_it_runs_or_not(home: Home):
    """`refresh_crawls` looks there, and the base of each snapshot in the calendar is that address."""
    address = find_mirror(home, say=print)
    port = json.loads((home.run / "ports.json").read_text())["mirror"]
    assert address == f"http://127.0.0.1:{port}"
    assert find_mirror(home, say=print) == address
    start_process(home, "mirror", SLEEP, {**os.environ, MARKER: str(home.path)}, 12345)
    assert find_mirror(home, say=print) == "http://127.0.0.1:12345"
    end_processes(find_processes(home))
    assert find_mirror(home, say=print) == address
