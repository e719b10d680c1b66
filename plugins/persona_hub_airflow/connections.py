"""Airflow's connections as plain values, with an error that says how to make a missing one.

The model's is `persona_hub_llm`: `host` is the address up to and including /v1, `password` the key, and each key of the
extra a setting of the group `llm`, such as model or window. An entry of `stages` or `fallback` there may name another
connection, which gives that entry its address, its key and its extra; what the entry says itself goes before:

    {"model": "strong", "stages": {"extract_candidates": {"connection": "cheap_llm", "window": 16}}}
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from airflow.sdk import Connection
from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

from persona_hub.errors import SettingsError
from persona_hub.settings import PREFIX, LlmSettings, Settings, load_settings

SPARK = "spark_default"
MODEL = "persona_hub_llm"
_SPARK_VALUES = """{"conn_type": "spark", "host": "local[2]"}"""
_MODEL_VALUES = (
    """{"conn_type": "generic", "host": "http://127.0.0.1:8000/v1", "password": "KEY", "extra": {"model": "NAME"}}"""
)
_CONNECTION = "connection"
_GROUPS = ("stages", "fallback")
_ENDPOINT = ("base_url", "api_key")
_PASSWORD = re.compile(r"//(?:[^/@:]*:)?([^/]*)@")  # of user:password@, or a lone user, which is a token then


def get_connection(conn_id: str, named_by: str = "") -> Connection:
    """The connection, or a task failure that no retry would cure.

    Args:
        named_by: who wants it, where that is not our own code.

    Raises:
        AirflowFailException: there is none; Spark's own hook would silently submit to YARN instead.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        found = f"There is no connection {conn_id}" + (f", which {named_by} names" if named_by else "")
        values = _SPARK_VALUES if conn_id == SPARK else _MODEL_VALUES
        missing = SettingsError(found, cure=f"create it: airflow connections add {conn_id} --conn-json '{values}'")
        raise AirflowFailException(str(missing)) from None


def load_model_settings() -> Settings:
    """The environment's settings with the model's connection laid over them, for tasks that start no driver.

    Raises:
        AirflowFailException: a connection is missing, has no address, or says something that is no setting.
    """
    return _load(read_model_environment(get_connection(MODEL)))


def read_model_environment(connection: Connection) -> dict[str, str]:
    """The model's connection, and those that it names, as settings of a driver. Masks every key in the task's log.

    Raises:
        AirflowFailException: no address, a connection that is not there, or something that is no setting.
    """
    values = _read_endpoint(connection, MODEL)
    for name, value in _read_extra(connection, MODEL).items():
        values[name] = _resolve_group(value, f"{name} of connection {MODEL}") if name in _GROUPS else value
    group = f"{PREFIX}LLM__"
    environment = {f"{group}{name.upper()}": _spell(value) for name, value in values.items() if value is not None}
    for secret in list_secrets(_load(environment).llm):
        mask_secret(secret)
    return environment


def list_secrets(llm: LlmSettings) -> list[str]:
    """Every key and every password of an address, nested groups included: what no log line may show."""
    key = llm.api_key.get_secret_value().strip() if llm.api_key else ""
    in_address = _PASSWORD.findall(llm.base_url or "")
    nested = (secret for group in (*llm.fallback, *llm.stages.values()) for secret in list_secrets(group))
    return sorted({key, *in_address, *map(unquote, in_address), *nested} - {""})


def _load(environment: Mapping[str, str]) -> Settings:
    ours = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    try:
        return load_settings(ours | dict(environment))
    except SettingsError as error:
        raise AirflowFailException(f"Connection {MODEL}: {error}") from None


def _resolve_group(value: Any, place: str) -> Any:
    """Puts endpoints in the place of the connections that `stages` or `fallback` name; other forms are left to the
    settings, which refuse them with their name."""
    value = _parse(value)
    if isinstance(value, dict):
        return {name: _resolve_entry(entry, f"{name} in {place}") for name, entry in value.items()}
    if isinstance(value, list):
        return [_resolve_entry(entry, f"an entry in {place}") for entry in value]
    return value


def _resolve_entry(entry: Any, place: str) -> Any:
    if not isinstance(entry, dict):
        return entry
    own = {name: value for name, value in entry.items() if name != _CONNECTION}
    if "api_key" in own or (_CONNECTION in entry and "base_url" in own):
        raise AirflowFailException(
            f"There is an address or a key in {place}. Wanted: address in host, key in password of a connection. "
            f'To do: create that connection and name it there: {{"{_CONNECTION}": "ID"}}.'
        )
    if "fallback" in own:
        own["fallback"] = _resolve_group(own["fallback"], f"fallback of {place}")
    if _CONNECTION not in entry:
        return own
    conn_id = str(entry[_CONNECTION])
    connection = get_connection(conn_id, named_by=place)
    # Of its own stages and fallbacks nothing is taken: a connection names an endpoint here, not a plan.
    extra = {name: _parse(value) for name, value in _read_extra(connection, conn_id).items()}
    taken = {name: value for name, value in extra.items() if name not in _GROUPS}
    return _read_endpoint(connection, conn_id) | taken | own


def _read_endpoint(connection: Connection, conn_id: str) -> dict[str, Any]:
    if not connection.host:
        raise AirflowFailException(f"Connection {conn_id} has no host. Wanted: an address up to and including /v1.")
    return {"base_url": connection.host, "api_key": connection.password or None}


def _read_extra(connection: Connection, conn_id: str) -> dict[str, Any]:
    extra = {name.lower(): value for name, value in connection.extra_dejson.items()}
    for name in _ENDPOINT:
        if name in extra:
            raise AirflowFailException(
                f"Connection {conn_id} has {name} in its extra. Wanted: address in host, key in password."
            )
    return extra


def _parse(value: Any) -> Any:
    """A list or an object that the form of Airflow's UI kept as text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def _spell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
