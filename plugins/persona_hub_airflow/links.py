"""Links from a task to its reports, which Airflow's own server shows (report_pages.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

from persona_hub.settings import load_settings
from persona_hub_airflow.spark import PersonaHubSparkOperator

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

PREFIX = "/persona_hub/reports"


def link_report(report: Path) -> str:
    """Address of a file or folder of reports; empty, which shows no link, where it does not exist."""
    if not report.exists():
        return ""
    place = report.relative_to(load_settings().reports).as_posix() + ("/" if report.is_dir() else "")
    base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{base}{PREFIX}/{quote(place)}"


class EstimateLink(BaseOperatorLink):
    """To the estimate that the task has written, also where it failed for the budget."""

    name = "Estimate"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        report: Path | None = getattr(operator, "report", None)
        return link_report(report) if report else ""


class DataDocsLink(BaseOperatorLink):
    """To the Data Docs of the gate in the task's job, also where the gate failed."""

    name = "Data Docs"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        arguments = dict(zip(operator.application_args[::2], operator.application_args[1::2], strict=True))
        data_type = arguments.get("--type")
        table = f"gold.task_{data_type}" if data_type else "gold.personas"
        return link_report(Path(load_settings().reports) / arguments["--slice"] / table)


class GatedSparkOperator(PersonaHubSparkOperator):
    """A job that ends in a gate."""

    operator_extra_links: ClassVar[tuple[BaseOperatorLink, ...]] = (DataDocsLink(),)
