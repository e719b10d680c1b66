"""Airflow's two connections as plain values, with an error that says how to make a missing one."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

from persona_hub.errors import SettingsError
from persona_hub.settings import PREFIX, load_settings

SPARK = "spark_default"
MODEL = "persona_hub_llm"
COMMANDS = {
    SPARK: """airflow connections add spark_default --conn-json '{"conn_type": "spark", "host": "local[2]"}'""",
    MODEL: "airflow connections add persona_hub_llm --conn-json "
    """'{"conn_type": "generic", "host": "http://127.0.0.1:8000/v1", "password": "KEY", "extra": {"model": "NAME"}}'""",
}


def get_connection(conn_id: str) -> Connection:
    """The connection, or a task failure that no retry would cure.

    Raises:
        AirflowFailException: there is none; Spark's own hook would silently submit to YARN instead.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        missing = SettingsError(f"There is no connection {conn_id}", cure=f"create it: {COMMANDS[conn_id]}")
        raise AirflowFailException(str(missing)) from None


def read_model_environment(connection: Connection) -> dict[str, str]:
    """The endpoint's connection as settings of the driver.

    `host` is the whole address up to /v1, `password` the key; each key of the extra is a setting of the group
    `llm`, such as model or price_input.

    Raises:
        AirflowFailException: no address, or something that is no setting.
    """
    values: dict[str, Any] = {"base_url": connection.host, "api_key": connection.password or None}
    for name, value in connection.extra_dejson.items():
        if name.lower() in values:
            raise AirflowFailException(
                f"Connection {MODEL} has {name} in its extra. Wanted: address in host, key in password."
            )
        values[name] = value
    if connection.password:
        mask_secret(connection.password)
    group = f"{PREFIX}LLM__"
    environment = {f"{group}{name.upper()}": _spell(value) for name, value in values.items() if value is not None}
    others = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    try:
        settings = load_settings(others | environment)
        if not settings.llm.base_url:
            raise SettingsError(f"Connection {MODEL} has no host", wanted="an address up to and including /v1")
    except SettingsError as error:
        raise AirflowFailException(f"Connection {MODEL}: {error}") from None
    return environment


def _spell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
