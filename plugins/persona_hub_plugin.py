"""The single Airflow plugin: what the scheduler, the API server and the DAG processor must know by name."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from persona_hub_airflow.mapper import SliceMapper
from persona_hub_airflow.timetable import CrawlSliceTimetable


class PersonaHubPlugin(AirflowPlugin):
    """Restart every Airflow component after a change here: plugins are read once."""

    name = "persona_hub"
    timetables: ClassVar[list[type]] = [CrawlSliceTimetable]
    partition_mappers: ClassVar[list[type]] = [SliceMapper]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """Built when the API server asks: no other component should have to load the server's code."""
        from persona_hub_airflow.links import PREFIX
        from persona_hub_airflow.report_pages import build_app

        return [{"app": build_app(), "url_prefix": PREFIX, "name": "Persona Hub reports"}]
