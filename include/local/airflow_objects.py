"""What Airflow must know before a run: two connections, two pools, and that the DAGs may run."""

from __future__ import annotations

import json
import time
from typing import Any

from local.airflow_api import AirflowApi, AirflowError

DAGS = ("refresh_crawls", "extract_personas", "synthesize_tasks")
POOLS: tuple[dict[str, Any], ...] = (
    {"name": "spark", "slots": 2, "include_deferred": False, "description": "Spark drivers at once"},
    {"name": "llm", "slots": 4, "include_deferred": True, "description": "batches that a model endpoint works on"},
)
# It answers four calls at once and lets the others wait: a larger window only makes each wait longer.
EXTRA = {"model": "smollm2-135m-instruct", "prompt_variant": "small", "input_chars": 500, "window": 4}
# The connection with this description is ours to renew; any other endpoint is the user's and stays.
EMBEDDED = "The embedded default, kept by make up. Change it, this text included, to name your own endpoint."


def describe_connections(model_url: str) -> tuple[dict[str, Any], ...]:
    """The connections as the REST API takes them."""
    return (
        {
            "connection_id": "spark_default",
            "conn_type": "spark",
            "host": "local[2]",
            "extra": json.dumps({"deploy-mode": "client", "spark-binary": "spark-submit"}),
            "description": "Where Spark jobs run. Any master that spark-submit reaches.",
        },
        {
            "connection_id": "persona_hub_llm",
            "conn_type": "generic",
            "host": model_url,
            "password": "embedded",
            "extra": json.dumps(EXTRA),
            "description": EMBEDDED,
        },
    )


def create_objects(api: AirflowApi, model_url: str) -> None:
    """Creates what is missing; of what is there, only the embedded model's address is renewed.

    Raises:
        AirflowError: Airflow refuses one.
    """
    for connection in describe_connections(model_url):
        path = f"/connections/{connection['connection_id']}"
        if not api.exists(path):
            api.call("POST", "/connections", json=connection)
        elif connection["description"] == EMBEDDED:
            stored = api.call("GET", path)
            if stored["description"] == EMBEDDED and stored["host"] != model_url:
                api.call("PATCH", path, json=connection)
    for pool in POOLS:
        if not api.exists(f"/pools/{pool['name']}"):
            api.call("POST", "/pools", json=pool)


def wait_for_dags(api: AirflowApi, timeout_s: float = 90) -> None:
    """Waits until the DAG files are read, and lets the DAGs run.

    Raises:
        AirflowError: a file cannot be imported, or a DAG does not appear.
    """
    deadline = time.monotonic() + timeout_s
    while missing := [dag for dag in DAGS if not api.exists(f"/dags/{dag}")]:
        if errors := list(api.list_all("/importErrors", "import_errors")):
            said = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
            raise AirflowError(f"Airflow cannot import:\n{said}", cure="correct the file")
        if time.monotonic() > deadline:
            raise AirflowError(
                f"No DAG {', '.join(missing)} after {timeout_s:.0f} s", cure="look into logs/dag-processor.log"
            )
        time.sleep(1)
    for dag in DAGS:
        if api.call("GET", f"/dags/{dag}")["is_paused"]:
            api.call("PATCH", f"/dags/{dag}", json={"is_paused": False})
