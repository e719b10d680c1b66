"""The task before each calling stage: what will be asked, what it will cost, and whether the budget allows it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException

from persona_hub.core.keys import parse_slice_key
from persona_hub.core.whole_file import write_whole
from persona_hub.errors import HubError
from persona_hub.stages import get_stage
from persona_hub_airflow.connections import load_model_settings
from persona_hub_airflow.links import EstimateLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from persona_hub.forecast import Forecast

PAGE = Path(__file__).with_name("estimate.html")


class EstimateOperator(BaseOperator):
    """Logs the estimate of a calling stage, writes it as a page, and fails where the budget would be passed.

    Args:
        stage: as in extract_candidates.
        data_type: of stages that have them (templated).
    """

    template_fields: Sequence[str] = ("data_type",)
    operator_extra_links: ClassVar[tuple[BaseOperatorLink, ...]] = (EstimateLink(),)

    def __init__(self, *, stage: str, data_type: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage, self.data_type = stage, data_type
        self.report: Path | None = None

    def execute(self, context: Context) -> None:
        from persona_hub.forecast import forecast_stage, format_forecast  # Arrow and deltalake: not while parsing

        slice_key, settings, run_id = read_slice_key(context), load_model_settings(), context["run_id"]
        try:
            stage = get_stage(self.stage, self.data_type)
            forecast = forecast_stage(settings, slice_key, stage, run_id, datetime.now(UTC))
            for line in format_forecast(forecast):
                self.log.info("%s", line)
            self.report = write_page(Path(settings.reports), forecast, run_id)
            forecast.check_budget()
        except HubError as error:
            if error.retry_helps:
                raise
            raise AirflowFailException(str(error)) from error
        for setting in forecast.list_near_lines():
            self.log.warning("%s may be reached: the stage then stops there, and the next run goes on", setting)


def read_slice_key(context: Context) -> str:
    """The slice that the run is for.

    Raises:
        AirflowFailException: it has none, or what it has is no slice key.
    """
    if not (key := context["dag_run"].partition_key):
        raise AirflowFailException(
            "This run has no partition key. Wanted: a slice such as CC-MAIN-2026-30/00012. "
            "To do: trigger it again with one."
        )
    try:
        return str(parse_slice_key(key))
    except HubError as error:
        raise AirflowFailException(f"The partition key of this run: {error}") from None


def write_page(reports: Path, forecast: Forecast, run_id: str) -> Path:
    """Writes `estimates/<slice>/<stage>[-<type>]/<hash of the run>.html`, whole or not at all."""
    from jinja2 import Environment

    from persona_hub.forecast import iter_figures

    template = Environment(autoescape=True).from_string(PAGE.read_text(encoding="utf-8"))
    name = hashlib.blake2b(run_id.encode(), digest_size=8).hexdigest()
    page = reports / "estimates" / forecast.slice / forecast.stage.replace("/", "-") / f"{name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, template.render(forecast=forecast, figures=iter_figures(forecast), run_id=run_id))
    return page
