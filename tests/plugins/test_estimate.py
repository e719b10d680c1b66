"""The estimate task: its log, its page, its link, and what it refuses. Real connections, a real lake."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from paid_lake import write_personas

from persona_hub.settings import Settings, load_settings
from persona_hub.stages import SYNTHESIZE
from persona_hub_airflow.estimate import EstimateOperator
from persona_hub_airflow.links import PREFIX, DataDocsLink, EstimateLink, GatedSparkOperator

SECRET = "sk-very-secret-4711"
SLICE = "CC-MAIN-2026-30/00001"
MODEL = {
    "conn_type": "generic",
    "host": "http://127.0.0.1:9/v1",
    "password": SECRET,
    "extra": {"model": "<b>large</b>", "prompt_variant": "standard"},
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_PERSONA_HUB_LLM", json.dumps(MODEL))
    (tmp_path / "prices.toml").write_text('[models."<b>large</b>"]\ninput = 2.0\noutput = 10.0\n')
    settings = load_settings()
    write_personas(settings, SLICE, range(10))
    return settings


def run(run_id: str = "run 1", data_type: str = "math") -> EstimateOperator:
    operator = EstimateOperator(task_id="t", stage=SYNTHESIZE, data_type=data_type)
    execute(operator, run_id)
    return operator


def execute(operator: EstimateOperator, run_id: str = "run 1") -> None:
    operator.execute({"dag_run": SimpleNamespace(partition_key=SLICE), "run_id": run_id})


def link(operator: Any) -> str:
    [only] = operator.operator_extra_links
    return only.get_link(operator, ti_key=None)


def test_log_page_and_link(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    operator = run()
    logged = "".join(capfd.readouterr())
    assert f"synthesize_samples/math of {SLICE}: 10 rows, model <b>large</b>" in logged
    assert re.search(r"money \(USD\) +0\.\d{4}", logged)
    folder = Path(settings.reports) / "estimates" / SLICE / "synthesize_samples-math"
    [page] = folder.iterdir()
    assert operator.report == page
    assert link(operator) == f"{PREFIX}/estimates/{SLICE}/synthesize_samples-math/{page.name}"
    text = page.read_text()
    assert "<td>pending questions<td>10<td>10<td>10</tr>" in text
    assert "&lt;b&gt;large&lt;/b&gt;" in text and "<b>large" not in text and "<script" not in text
    assert "No budget is set." in text
    assert SECRET not in text + logged


def test_a_retry_writes_the_same_page_and_another_run_its_own(settings: Settings) -> None:
    first, again, other = run(), run(), run("run 2")
    assert first.report == again.report != other.report


@pytest.mark.usefixtures("settings")
def test_a_budget_that_would_be_passed_fails_for_good_with_figures_setting_and_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERSONA_HUB_BUDGET__PER_STAGE", "0.01")
    operator = EstimateOperator(task_id="t", stage=SYNTHESIZE, data_type="math")
    with pytest.raises(AirflowFailException) as raised:
        execute(operator)
    told = str(raised.value)
    assert re.search(r"estimated at 0\.\d{4} USD \(0\.\d{4} to 0\.\d{4}\) for 10 calls", told)
    assert "0.0000 spent, PERSONA_HUB_BUDGET__PER_STAGE=0.01" in told and "raise PERSONA_HUB_BUDGET__PER_STAGE" in told
    assert link(operator).startswith(f"{PREFIX}/estimates/{SLICE}/")
    assert operator.report is not None
    text = operator.report.read_text()
    line = r'<td>PERSONA_HUB_BUDGET__PER_STAGE<td>0\.0100<td>0\.0000\n +<td class="passed">0\.\d{4}</tr>'
    assert re.search(line, text)


@pytest.mark.usefixtures("settings")
def test_a_line_that_may_be_reached_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERSONA_HUB_BUDGET__PER_RUN", "0.04")
    run()
    assert "PERSONA_HUB_BUDGET__PER_RUN may be reached" in "".join(capfd.readouterr())


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("AIRFLOW_CONN_PERSONA_HUB_LLM", None, "no connection persona_hub_llm"),
        ("PERSONA_HUB_PRICES", "/no/such.toml", "price file /no/such.toml cannot be read"),
    ],
)
def test_what_a_person_must_mend_fails_for_good(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, says: str
) -> None:
    monkeypatch.delenv(variable, raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)
    with pytest.raises(AirflowFailException, match=says) as raised:
        run()
    assert SECRET not in str(raised.value)


@pytest.mark.usefixtures("settings")
def test_an_unknown_data_type_is_refused() -> None:
    with pytest.raises(AirflowFailException, match="No data type 'poetry'"):
        run(data_type="poetry")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (None, "no partition key. Wanted: a slice such as CC-MAIN-2026-30/00012. To do: trigger it again with one"),
        ("../gold", "partition key of this run: '../gold' is no slice key"),
    ],
)
def test_a_run_without_a_slice_says_so(settings: Settings, key: str | None, says: str) -> None:
    operator = EstimateOperator(task_id="t", stage=SYNTHESIZE, data_type="math")
    with pytest.raises(AirflowFailException, match=says):
        operator.execute({"dag_run": SimpleNamespace(partition_key=key), "run_id": "run 1"})  # type: ignore[typeddict-item]
    assert not Path(settings.reports).exists()


def test_no_link_where_nothing_was_written(settings: Settings) -> None:
    assert link(EstimateOperator(task_id="t", stage=SYNTHESIZE)) == ""
    assert link(gated("--type", "math")) == ""


def gated(*more: str) -> GatedSparkOperator:
    return GatedSparkOperator(task_id="g", job="publish_personas", job_args=["--slice", SLICE, "--run", "r", *more])


@pytest.mark.parametrize(("more", "table"), [((), "gold.personas"), (("--type", "math"), "gold.task_math")])
def test_a_gates_task_links_to_its_data_docs(settings: Settings, more: tuple[str, ...], table: str) -> None:
    (Path(settings.reports) / SLICE / table).mkdir(parents=True)
    assert link(gated(*more)) == f"{PREFIX}/{SLICE}/{table}/"


def test_links_stand_below_the_path_of_airflows_address(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://data.example/airflow/")
    (Path(settings.reports) / SLICE / "gold.personas").mkdir(parents=True)
    assert link(gated()) == f"/airflow{PREFIX}/{SLICE}/gold.personas/"


def test_airflow_finds_the_links_of_mapped_tasks_by_class() -> None:
    assert [type(one) for one in EstimateOperator.operator_extra_links] == [EstimateLink]
    assert [type(one) for one in GatedSparkOperator.operator_extra_links] == [DataDocsLink]
