"""One file of spark_jobs/ as one Airflow task."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

import persona_hub
from persona_hub.errors import HOPELESS
from persona_hub.settings import Settings, load_settings
from persona_hub_airflow.connections import MODEL, SPARK, get_connection, list_secrets, read_model_environment
from persona_hub_airflow.package import build_library_zip
from persona_hub_airflow.process_group import die_with_parent, end_process_group
from persona_hub_airflow.spark_conf import driver_conf

if TYPE_CHECKING:
    from airflow.sdk import Context

JOBS = Path(__file__).resolve().parents[2] / "spark_jobs"
DRAIN_S = 4.0  # Airflow's supervisor sends SIGKILL 5 s after its SIGTERM


def retry_policy(settings: Settings) -> dict[str, Any]:
    """Default arguments of the DAGs: jobs are resumable, and what they paid for is kept."""
    return {"retries": 2, "retry_delay": timedelta(seconds=settings.retry_delay_s)}


class PersonaHubSparkHook(SparkSubmitHook):
    """spark-submit in a process group of its own, which ends gently and as a whole.

    Airflow's own hook sends SIGKILL to spark-submit at once, and leaves its Python behind.

    Args:
        environment: variables for the driver; secrets belong here, and in no conf.
        secrets: what no log line may show, wherever it comes from.
    """

    def __init__(self, *, environment: dict[str, str], secrets: list[str], **kwargs: Any) -> None:
        super().__init__(env_vars=environment, **kwargs)
        self._secrets = [secret for secret in secrets if secret]
        self._killed = False

    def submit(self, application: str = "", **kwargs: Any) -> str | None:
        kwargs |= {"start_new_session": True, "preexec_fn": die_with_parent}
        try:
            driver_id = super().submit(application, **kwargs)
        except AirflowException as error:
            if self._submit_sp is not None and self._submit_sp.returncode == HOPELESS:
                raise AirflowFailException("A retry cannot cure this; the driver's last lines above say what can") from error
            raise
        if self._killed:  # a driver that drained well may exit with 0, and Airflow would call that a success
            raise AirflowException("The driver was ended before its job was done")
        return driver_id

    def on_kill(self) -> None:
        self._killed = True
        process = self._submit_sp
        # In cluster mode spark-submit only watches: the parent class knows how to end those drivers.
        if process is not None and self._connection["deploy_mode"] != "cluster":
            self.log.info("Ending the driver's process group %s", process.pid)
            if not end_process_group(process.pid, DRAIN_S, process.stdout.fileno(), self._log_line):
                self.log.warning("The driver did not end in %.0f s and was killed", DRAIN_S)
        super().on_kill()

    def _log_line(self, line: str) -> None:
        self.log.info("%s", self._hide_secrets(line))

    def _process_spark_submit_log(self, itr: Iterator[str]) -> None:
        super()._process_spark_submit_log(self._hide_secrets(line) for line in itr)

    def _mask_cmd(self, connection_cmd: str | list[str]) -> str:
        # For YARN and Kubernetes the parent writes the environment into the command, and logs it.
        return self._hide_secrets(super()._mask_cmd(connection_cmd))

    def _hide_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "******")
        return text

    def _get_spark_binary_path(self) -> list[str]:
        # Beside the interpreter where the PATH has none: an environment need not be activated to be used.
        name = super()._get_spark_binary_path()[0]
        return [shutil.which(name) or str(Path(sys.executable).parent / name)]


class PersonaHubSparkOperator(SparkSubmitOperator):
    """Runs `spark_jobs/<job>.py` through the connection spark_default.

    Its extra may hold `conf`, an object of Spark properties, which goes before our own: a cluster's sizes.

    Args:
        job: the file's name without its ending.
        job_args: its arguments (templated).
        uses_model: whether the connection persona_hub_llm is needed, and handed on as settings.
        per_slice: whether the job works on the slice of the run; else on the whole hub.
    """

    def __init__(
        self, *, job: str, job_args: list[Any], uses_model: bool = False, per_slice: bool = True, pool: str = "spark",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            application=str(JOBS / f"{job}.py"),
            application_args=job_args,
            name=f"persona_hub.{job}",
            conn_id=SPARK,
            pool=pool,
            **kwargs,
        )
        self.uses_model = uses_model
        self.per_slice = per_slice

    def execute(self, context: Context) -> None:
        if self.per_slice and not context["dag_run"].partition_key:
            raise AirflowFailException(
                "This run has no partition key. Wanted: a slice such as CC-MAIN-2026-30/00012. "
                "To do: trigger it again with one."
            )
        super().execute(context)

    def _get_hook(self) -> SparkSubmitHook:
        settings = load_settings()
        conf = driver_conf(settings) | get_connection(SPARK).extra_dejson.get("conf", {})
        environment = {"PYSPARK_PYTHON": sys.executable}
        secrets = []
        if self.uses_model:
            model = get_connection(MODEL)
            environment |= read_model_environment(model)
            secrets = list_secrets(load_settings(os.environ | environment).llm)
        return PersonaHubSparkHook(
            conf=(self.conf or {}) | conf,
            conn_id=SPARK,
            py_files=str(build_library_zip(Path(persona_hub.__file__).parent, settings.home / "run")),
            name=self.name,
            application_args=self.application_args,
            environment=environment,
            secrets=secrets,
        )
