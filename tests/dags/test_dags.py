"""What stands in dags/: how many, how they are wired, and that parsing them stays light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jinja2
import pendulum
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DagRunInfo, TimeRestriction

from local.mirror import PAGES, build_mirror
from persona_hub.crawl.calendar import load_calendar
from persona_hub.errors import SourceError
from persona_hub.synthesis import registry
from persona_hub_airflow.mapper import SliceMapper
from persona_hub_airflow.spark import PersonaHubSparkOperator
from persona_hub_airflow.timetable import CrawlSliceTimetable

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["extract_personas", "maintain_lake", "recompute_hub", "refresh_crawls", "synthesize_tasks"]
HEAVY = ("pyspark", "delta", "deltalake", "pyarrow", "pandas", "torch", "sentence_transformers", "great_expectations", "openai")


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    bag = DagBag(ROOT / "dags")
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_there_are_exactly_these(dags: dict[str, DAG]) -> None:
    assert sorted(dags) == NAMES


def test_each_says_what_it_makes_and_how_to_triage(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        assert dag.doc_md.splitlines()[2].startswith(("Makes `gold.", "Makes `silver.", "Makes `bronze."))
        assert "**When it fails**" in dag.doc_md


def test_tasks_and_their_order(dags: dict[str, DAG]) -> None:
    order = {name: {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} for name, dag in dags.items()}
    assert order["extract_personas"] == {
        "ingest_pages": ["estimate_candidates"],
        "estimate_candidates": ["extract_candidates"],
        "extract_candidates": ["deduplicate_personas"],
        "deduplicate_personas": ["publish_personas"],
        "publish_personas": ["report_personas"],
        "report_personas": [],
    }
    assert order["synthesize_tasks"] == {
        "make_samples.estimate_samples": ["make_samples.synthesize_samples"],
        "make_samples.synthesize_samples": ["make_samples.export_samples"],
        "make_samples.export_samples": ["report_samples"],
        "report_samples": [],
    }
    assert order["refresh_crawls"] == {"refresh_calendar": []}
    assert (order["maintain_lake"], order["recompute_hub"]) == ({"train_cells": []}, {"recompute_hub": []})


def test_batches_come_between_estimate_and_stage_where_the_settings_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_HUB_BATCH__STAGES", '["extract_candidates", "synthesize_samples"]')
    bag = DagBag(ROOT / "dags")
    assert bag.import_errors == {}
    for dag, before, batch, after in (
        ("extract_personas", "estimate_candidates", "batch_candidates", "extract_candidates"),
        *[("synthesize_tasks", *(f"make_samples.{name}_samples" for name in ("estimate", "batch", "synthesize")))],
    ):
        task = bag.dags[dag].get_task(batch)
        assert (task.upstream_task_ids, task.downstream_task_ids) == ({before}, {after})
        assert (task.pool, task.stage) == ("llm", after.rpartition(".")[2])
        assert bag.dags[dag].get_task(before).stage == task.stage


def test_links_to_reports_are_airflows_to_find(dags: dict[str, DAG]) -> None:
    """The server knows a link by its name and the XCom that holds its address, in the DAG as it is stored."""
    stored = {name: DagSerialization.to_dict(dag)["dag"] for name, dag in dags.items()}
    links = {
        task["__var"]["task_id"]: task["__var"]["_operator_extra_links"]
        for dag in stored.values()
        for task in dag["tasks"]
        if "_operator_extra_links" in task["__var"]
    }
    estimate, docs = {"Estimate": "_link_EstimateLink"}, {"Data Docs": "_link_DataDocsLink"}
    assert links == {
        "estimate_candidates": estimate,
        "publish_personas": docs,
        "make_samples.estimate_samples": estimate,
        "make_samples.synthesize_samples": docs,
    }


def test_every_spark_task_has_its_job_its_pool_and_the_slice(dags: dict[str, DAG]) -> None:
    tasks = [task for dag in dags.values() for task in dag.tasks if isinstance(task, PersonaHubSparkOperator)]
    assert len(tasks) == 7
    for task in tasks:
        job = ROOT / "spark_jobs" / f"{task.task_id.rpartition('.')[2]}.py"
        assert task.application == str(job) and job.is_file()
        assert task.pool == "spark"
        run = ["--run", "{{ run_id }}", "--attempt", "{{ ti.try_number }}"]
        slice_args = ["--slice", "{{ dag_run.partition_key }}"] if task.per_slice else []
        assert task.application_args[: len(slice_args) + 4] == slice_args + run
    assert {task.task_id for task in tasks if not task.per_slice} == {"train_cells", "recompute_hub"}
    assert {task.task_id for task in tasks if task.uses_model} == {
        "extract_candidates",
        "make_samples.synthesize_samples",
    }
    others = {task.pool for dag in dags.values() for task in dag.tasks if task not in tasks}
    assert others == {"default_pool"}


def test_tasks_are_tried_again_after_the_set_delay(dags: dict[str, DAG]) -> None:
    assert {(task.retries, task.retry_delay.total_seconds()) for dag in dags.values() for task in dag.tasks} == {
        (2, 60.0)
    }


def test_slices_drive_one_and_the_asset_the_other(dags: dict[str, DAG]) -> None:
    assert isinstance(dags["extract_personas"].timetable, CrawlSliceTimetable)
    assert [asset.name for asset in dags["extract_personas"].get_task("publish_personas").outlets] == ["personas"]
    follower = dags["synthesize_tasks"].timetable
    assert isinstance(follower.default_partition_mapper, SliceMapper)
    assert follower.asset_condition.name == "personas"


def test_one_branch_per_data_type_and_the_report_does_not_decide(dags: dict[str, DAG]) -> None:
    group = dags["synthesize_tasks"].task_group.children["make_samples"]
    assert group._expand_input.value == {"data_type": list(registry.names())}
    for dag, report in (("extract_personas", "report_personas"), ("synthesize_tasks", "report_samples")):
        assert dags[dag].get_task(report).is_teardown
        assert not dags[dag].get_task(report).on_failure_fail_dagrun


def test_crawls_are_refreshed_daily_at_one(dags: dict[str, DAG]) -> None:
    """Before the night's run at two, which then finds what is new; one at a time, and no past day is made up for."""
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dags["refresh_crawls"])).timetable
    last = DagRunInfo.exact(pendulum.datetime(2026, 11, 20, 1))
    following = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=TimeRestriction(None, None, True))
    assert following.run_after == pendulum.datetime(2026, 11, 21, 1)
    first = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=TimeRestriction(None, None, False))
    assert (first.run_after.hour, first.run_after.minute) == (1, 0)
    assert first.run_after > pendulum.now("UTC")
    assert (dags["refresh_crawls"].catchup, dags["refresh_crawls"].max_active_runs) == (False, 1)


def test_the_lake_is_maintained_on_sundays(dags: dict[str, DAG]) -> None:
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dags["maintain_lake"])).timetable
    last = DagRunInfo.exact(pendulum.datetime(2026, 11, 15, 12))
    following = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=TimeRestriction(None, None, True))
    assert following.run_after == pendulum.datetime(2026, 11, 22, 12)
    first = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=TimeRestriction(None, None, False))
    assert (first.run_after > pendulum.now("UTC"), first.run_after.day_of_week) == (True, pendulum.SUNDAY)
    assert (dags["maintain_lake"].catchup, dags["maintain_lake"].max_active_runs) == (False, 1)


def test_the_hub_is_recomputed_by_hand_and_first_on_trial(dags: dict[str, DAG]) -> None:
    dag = DagSerialization.from_dict(DagSerialization.to_dict(dags["recompute_hub"]))
    assert (dag.timetable.can_be_scheduled, dag.max_active_runs) == (False, 1)
    assert dag.params.dump() == {"data_type": "", "drop_slice": "", "dry_run": True}
    slices = dags["recompute_hub"].params.get_param("drop_slice")
    for good in ("", "CC-MAIN-2026-30/00012", "CC-MAIN-2026-30.warc/00001"):
        assert slices.resolve(good) == good
    for bad in ("CC-MAIN-2026-30", "CC-MAIN-2026-30/12", "x' OR '1' = '1", "CC-MAIN-2026-30/00012/000000", "*"):
        with pytest.raises(ParamValidationError):
            slices.resolve(bad)


@pytest.mark.parametrize(("params", "told"), [
    ({"data_type": "", "drop_slice": "", "dry_run": True}, ["--type", "", "--drop", "", "--dry-run"]),
    ({"data_type": "", "drop_slice": "A/00001", "dry_run": False}, ["--type", "", "--drop", "A/00001", "--no-dry-run"]),
])  # fmt: skip
def test_the_job_understands_what_the_parameters_become(
    dags: dict[str, DAG], params: dict[str, object], told: list[str]
) -> None:
    task = dags["recompute_hub"].get_task("recompute_hub")
    args = [jinja2.Template(arg).render(params=params, run_id="r", ti={"try_number": 2}) for arg in task.application_args]
    assert args == ["--run", "r", "--attempt", "2", *told]


def test_refresh_enters_what_the_source_has(
    dags: dict[str, DAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_mirror(PAGES, tmp_path / "mirror")
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("PERSONA_HUB_CRAWL__SOURCE", str(tmp_path / "mirror"))
    dags["refresh_crawls"].get_task("refresh_calendar").python_callable()
    [snapshot] = load_calendar(tmp_path / "hub" / "calendar").snapshots
    assert (snapshot.id, snapshot.files, snapshot.base) == ("CC-MAIN-2026-45", 2, str(tmp_path / "mirror"))


def test_refresh_that_a_retry_cannot_cure_is_not_tried_again(
    dags: dict[str, DAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh = dags["refresh_crawls"].get_task("refresh_calendar").python_callable
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("PERSONA_HUB_CRAWL__SOURCE", "https://data.commoncrawl.org")
    with pytest.raises(AirflowFailException, match="set PERSONA_HUB_CRAWL__CONTACT"):
        refresh()
    monkeypatch.setenv("PERSONA_HUB_CRAWL__SOURCE", str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="No file 'collinfo.json'"):
        refresh()


def test_parsing_is_light() -> None:
    """Each file after the other in a fresh interpreter; the library's heavy packages must stay out."""
    code = f"""
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
found = []
for name in {NAMES!r}:
    start = time.perf_counter()
    bag = DagBag({str(ROOT / "dags")!r} + "/" + name + ".py")
    found.append([list(bag.dags), time.perf_counter() - start])
print("RESULT" + json.dumps([found, sorted({{one.split(".")[0] for one in sys.modules}} & set({HEAVY!r}))]))
"""
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT / "plugins")])
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    found, heavy = json.loads(done.stdout.partition("RESULT")[2])
    for names, seconds in found:
        print(f"{names}: parsed in {seconds:.2f} s")
    assert [names for names, _ in found] == [[name] for name in NAMES]
    assert heavy == []
