"""The operator and its hook, with a spark-submit that is a shell script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from persona_hub.settings import load_settings
from persona_hub_airflow.process_group import end_process_group, is_group_alive
from persona_hub_airflow.spark import PersonaHubSparkHook, PersonaHubSparkOperator
from persona_hub_airflow.spark_conf import driver_conf

SECRET = "sk-very-secret-4711"
SPARK = {"conn_type": "spark", "host": "local[2]", "extra": {"conf": {"spark.driver.memory": "3g"}}}
MODEL = {
    "conn_type": "http",
    "host": "http://127.0.0.1:8000/v1",
    "password": SECRET,
    "extra": {"model": "large", "features": ["seed"], "window": 16},
}


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a script in the place of spark-submit; connections and home are temporary too."""

    def write(script: str) -> None:
        path = tmp_path / "spark-submit"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(SPARK))
    monkeypatch.setenv("AIRFLOW_CONN_PERSONA_HUB_LLM", json.dumps(MODEL))
    write("exit 0")
    return write


def run(**kwargs: Any) -> None:
    operator = PersonaHubSparkOperator(task_id="t", job="ingest_pages", job_args=["--slice", "A/00001"], **kwargs)
    operator.execute({"dag_run": SimpleNamespace(partition_key="A/00001")})


def wait_for(path: Path, seconds: float = 10) -> str:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)
    return path.read_text()


def test_command_line_and_environment(submit: Any, tmp_path: Path) -> None:
    submit(f'printf "%s\\n" "$@" > {tmp_path}/args; env | grep ^PERSONA_HUB_ | sort > {tmp_path}/env')
    run(uses_model=True)
    args = (tmp_path / "args").read_text().splitlines()
    assert args[:2] == ["--master", "local[2]"]
    assert args[-3].endswith("/spark_jobs/ingest_pages.py") and args[-2:] == ["--slice", "A/00001"]
    conf = dict(args[n + 1].split("=", 1) for n, one in enumerate(args) if one == "--conf")
    assert conf == driver_conf(load_settings()) | {"spark.driver.memory": "3g"}
    library = Path(args[args.index("--py-files") + 1])
    assert library.parent == tmp_path / "home" / "run" and library.exists()
    assert (tmp_path / "env").read_text().splitlines() == [
        f"PERSONA_HUB_HOME={tmp_path}/home",
        f"PERSONA_HUB_LLM__API_KEY={SECRET}",
        "PERSONA_HUB_LLM__BASE_URL=http://127.0.0.1:8000/v1",
        'PERSONA_HUB_LLM__FEATURES=["seed"]',
        "PERSONA_HUB_LLM__MODEL=large",
        "PERSONA_HUB_LLM__WINDOW=16",
    ]
    assert SECRET not in "".join(args)


def test_job_that_asks_no_model_gets_no_secret(submit: Any, tmp_path: Path) -> None:
    submit(f"env > {tmp_path}/env")
    run()
    assert "PERSONA_HUB_LLM__" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("master", ["local[2]", "yarn"])
def test_key_is_in_no_log_and_no_error(
    submit: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], master: str
) -> None:
    """For YARN and Kubernetes the provider writes the environment into the command that it logs."""
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(SPARK | {"host": master}))
    submit('echo "I print $PERSONA_HUB_LLM__API_KEY"; exit 3')
    with pytest.raises(AirflowException) as caught:
        run(uses_model=True)
    logged = "".join(capfd.readouterr())
    assert "Error code is: 3" in str(caught.value)
    assert f"--master {master}" in logged and "I print ******" in logged
    assert SECRET not in logged + str(caught.value)


@pytest.mark.parametrize(("conn_id", "uses_model"), [("spark_default", False), ("persona_hub_llm", True)])
def test_missing_connection_says_how_to_create_it(
    submit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, conn_id: str, uses_model: bool
) -> None:
    submit(f"touch {tmp_path}/started")
    monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")
    with pytest.raises(AirflowFailException, match=f"no connection {conn_id}.+ airflow connections add {conn_id} "):
        run(uses_model=uses_model)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"extra": {"modle": "x"}}, "Unknown setting PERSONA_HUB_LLM__MODLE"),
        ({"extra": {"api_key": "x"}}, "has api_key in its extra"),
        ({"extra": {"window": 0}}, "PERSONA_HUB_LLM__WINDOW"),
        ({"host": None}, "has no host"),
    ],
)
def test_connection_that_is_no_endpoint_is_refused_before_a_driver_starts(
    submit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    submit(f"touch {tmp_path}/started")
    monkeypatch.setenv("AIRFLOW_CONN_PERSONA_HUB_LLM", json.dumps(MODEL | change))
    with pytest.raises(AirflowFailException, match=says) as caught:
        run(uses_model=True)
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "started").exists()


def test_run_without_a_slice_is_refused(submit: Any) -> None:
    operator = PersonaHubSparkOperator(task_id="t", job="ingest_pages", job_args=[])
    with pytest.raises(AirflowFailException, match="no partition key"):
        operator.execute({"dag_run": SimpleNamespace(partition_key=None)})


def test_a_job_of_the_whole_hub_needs_no_slice(submit: Any, tmp_path: Path) -> None:
    submit(f'printf "%s\\n" "$@" > {tmp_path}/args')
    args = ["--run", "r", "--drop", "", "--dry-run"]
    operator = PersonaHubSparkOperator(task_id="t", job="recompute_hub", job_args=args, per_slice=False)
    operator.execute({"dag_run": SimpleNamespace(partition_key=None)})
    assert (tmp_path / "args").read_text().splitlines()[-6:] == [operator.application, *args]


def test_archive_of_classes_is_used_where_it_exists(submit: Any, tmp_path: Path) -> None:
    assert "SharedArchiveFile" not in driver_conf(load_settings())["spark.driver.extraJavaOptions"]
    archive = tmp_path / "home" / "cds" / "spark.jsa"
    archive.parent.mkdir(parents=True)
    archive.touch()
    assert driver_conf(load_settings())["spark.driver.extraJavaOptions"].endswith(
        f"-Xshare:auto -XX:SharedArchiveFile={archive}"
    )


CHILD = """trap 'echo child drained; echo x >> {0}/child_term; exit 0' TERM; echo $BASHPID > {0}/child
while true; do sleep 0.1; done"""
PARENT = """({child}) &
trap 'echo parent drained; echo x >> {0}/parent_term; wait; exit {rc}' TERM; echo $$ > {0}/parent
while true; do sleep 0.1; done"""


@pytest.mark.parametrize("rc", [0, 143])
def test_kill_reaches_the_whole_group_and_is_no_success(
    submit: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], rc: int
) -> None:
    submit(PARENT.format(tmp_path, child=CHILD.format(tmp_path), rc=rc))
    hook = PersonaHubSparkHook(conn_id="spark_default", environment={}, secrets=[])

    def kill_when_up() -> None:
        wait_for(tmp_path / "parent")
        wait_for(tmp_path / "child")
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: hook.on_kill())  # as Airflow's task runner does
    killer = threading.Thread(target=kill_when_up)
    try:
        killer.start()
        with pytest.raises(AirflowException) as caught:
            hook.submit("job.py")
    finally:
        killer.join()
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "parent_term").read_text() == "x\n"
    assert (tmp_path / "child_term").read_text() == "x\n"
    assert not is_group_alive(int((tmp_path / "parent").read_text()))
    logged = "".join(capfd.readouterr())
    assert (logged.count("parent drained"), logged.count("child drained")) == (1, 1)
    assert ("ended before its job was done" in str(caught.value)) == (rc == 0)


def test_group_that_will_not_end_is_killed(tmp_path: Path) -> None:
    script = f"trap '' TERM; (trap '' TERM; sleep 60) & echo ready > {tmp_path}/up; sleep 60"
    process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    wait_for(tmp_path / "up")
    assert is_group_alive(process.pid)
    assert end_process_group(process.pid, 0.5, process.stdout.fileno(), print) is False
    assert process.wait(5) == -signal.SIGKILL
    time.sleep(0.1)
    assert not is_group_alive(process.pid)


def test_a_full_pipe_does_not_hold_a_driver_up(tmp_path: Path) -> None:
    """More than a pipe holds, written while it drains."""
    script = f"trap 'head -c 300000 /dev/zero | tr \"\\0\" x; exit 7' TERM; echo ready > {tmp_path}/up; while true; do sleep 0.05; done"
    process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    wait_for(tmp_path / "up")
    lines: list[str] = []
    assert end_process_group(process.pid, 4, process.stdout.fileno(), lines.append) is True
    assert process.wait(5) == 7
    assert sum(map(len, lines)) + len(process.stdout.read()) == 300_000


def test_driver_goes_when_its_task_is_gone(submit: Any, tmp_path: Path) -> None:
    """A worker that is killed outright cannot call on_kill."""
    submit(f"echo $$ > {tmp_path}/driver; exec sleep 60")
    code = (
        "from persona_hub_airflow.spark import PersonaHubSparkHook as Hook\n"
        "Hook(conn_id='spark_default', environment={}, secrets=[]).submit('job.py')"
    )
    path = os.pathsep.join(sys.path)
    task = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL
    )
    driver = int(wait_for(tmp_path / "driver", 60))
    assert is_group_alive(driver)
    task.kill()
    task.wait()
    deadline = time.monotonic() + 5
    while is_group_alive(driver) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_group_alive(driver)
