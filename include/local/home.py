"""Where one installation keeps its things, and the environment that its processes get.

A home holds lake, Airflow, logs and process records. The tests have a home of their own inside the checkout's;
what is heavy and the same for all (environment, Java, jars, class data) stays in the checkout's `.hub`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from persona_hub.settings import PREFIX, load_settings

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = CHECKOUT / ".hub"
# Carried by every process that an installation starts, and by what those start: so `down` finds Spark drivers too.
# It is no setting, therefore without our prefix, which admits settings only.
MARKER = "HUB_SERVICES_OF"


@dataclass(frozen=True)
class Home:
    """One installation's folders. `path` is absolute."""

    path: Path

    @property
    def airflow(self) -> Path:
        return self.path / "airflow"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def mirror(self) -> Path:
        return self.path / "mirror"

    @property
    def run(self) -> Path:
        """Process records, and `services.json` with addresses and login."""
        return self.path / "run"

    def make_folders(self) -> None:
        """Creates the folders, and links what is shared from the checkout's `.hub`."""
        for folder in (self.airflow, self.logs, self.run):
            folder.mkdir(parents=True, exist_ok=True)
        for name in ("jars", "cds"):
            link = self.path / name
            if self.path != SHARED and not link.is_symlink() and not link.exists():
                link.symlink_to(SHARED / name)

    def settings_environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Our settings as variables: this process's own, then `extra`, then this home. Checked here, before any start.

        Raises:
            SettingsError: one is unknown or out of range.
        """
        ours = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        ours |= {**(extra or {}), f"{PREFIX}HOME": str(self.path)}
        load_settings(ours)
        return ours

    def process_environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The environment of the mirror, the model server and Airflow: loopback only, nothing told to anybody."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "AIRFLOW"))}
        python_path = [str(CHECKOUT / "include"), str(CHECKOUT / "plugins")]
        java = SHARED / "java"
        return {
            **kept,
            **settings,
            **({"JAVA_HOME": str(java.resolve())} if java.exists() else {}),
            MARKER: str(self.path),
            # Airflow's processes rename themselves; without this the new name is written over their environment.
            "SPT_NOENV": "1",
            "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), kept.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(python_path),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            "SPARK_LOCAL_IP": "127.0.0.1",
            "AIRFLOW_HOME": str(self.airflow),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            # Pools bound what runs; more idle workers would only be more processes.
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__API__HOST": "127.0.0.1",
            # The scheduler looks for new work each second instead of every five: runs here are short.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        }


def find_home(path: str | Path | None = None) -> Home:
    """The named home, else the settings' own (`PERSONA_HUB_HOME`), else the checkout's `.hub`."""
    chosen = path or os.environ.get(f"{PREFIX}HOME") or SHARED
    return Home(Path(chosen).absolute())
