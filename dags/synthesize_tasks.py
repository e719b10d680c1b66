"""### Training data from the personas of one slice

Makes `gold.task_<type>` and its export, for each data type of the registry: gives the slice's personas to the model
with the type's prompt, refuses what is no such thing, checks the rest, publishes it in one commit, and exports it.
Follows `extract_personas` under the same key, and runs again when that slice is published again.

The types are mapped: one that fails stops no other, and the run is failed then. To run a type again,
clear its tasks (the map index shows the type's name). Samples that are there already cost nothing again.

**When it fails**

| task | look for | then |
| --- | --- | --- |
| any | `There is no connection …` | create it with the command in the log, clear the task |
| `estimate_samples` | the budget that would be passed, with its figures; the link *Estimate* | raise the setting that it names, or ask less, and clear the task |
| `batch_samples` | what the endpoint says of the batch or its file | mend what it names, clear the task; batches that were paid for are found again |
| `synthesize_samples` | the endpoint's answer: down, wrong key, wrong model | mend `persona_hub_llm`, clear the task; answers that arrived are kept |
| `synthesize_samples` | `BudgetReached` | what was bought is kept: raise the setting that it names, or wait for the next day or month, and clear the task |
| `synthesize_samples` | the expectation that failed, what was seen, the link *Data Docs* | nothing of this type was published: better prompt or model, and clear the type |
| `export_samples` | disk, rights of the export folder | mend, clear the task |

`estimate_samples` says what a type will cost before its first call; its link *Estimate* has the figures.
`batch_samples` is there where `PERSONA_HUB_BATCH__STAGES` names `synthesize_samples`: it asks at the batch discount, and
holds a place in the pool `llm` meanwhile.

`report_samples` runs in any case and logs the funnel of all types.
"""

from __future__ import annotations

from airflow.sdk import DAG, PartitionedAssetTimetable, chain, get_current_context, task, task_group

from persona_hub.settings import load_settings
from persona_hub.stages import SYNTHESIZE
from persona_hub.synthesis import registry
from persona_hub_airflow.assets import PERSONAS
from persona_hub_airflow.batch import BatchOperator
from persona_hub_airflow.estimate import EstimateOperator
from persona_hub_airflow.links import GatedSparkOperator
from persona_hub_airflow.mapper import SliceMapper
from persona_hub_airflow.report import SLICE_ARGS, log_funnel
from persona_hub_airflow.spark import retry_policy

settings = load_settings()

with DAG(
    "synthesize_tasks",
    schedule=PartitionedAssetTimetable(assets=PERSONAS, default_partition_mapper=SliceMapper(settings.calendar)),
    catchup=False,
    max_active_runs=2,
    default_args=retry_policy(settings),
    doc_md=__doc__,
    tags=["persona_hub"],
):

    @task(map_index_template="{{ task.op_kwargs['data_type'] }}")
    def export_samples(data_type: str) -> None:
        from persona_hub.synthesis.export import export_samples as export  # Arrow and deltalake: not while parsing

        export(load_settings(), get_current_context()["dag_run"].partition_key, data_type)

    @task
    def report_samples() -> None:
        log_funnel()

    @task_group
    def make_samples(data_type: str) -> None:
        asking = {"stage": SYNTHESIZE, "data_type": data_type, "map_index_template": "{{ task.data_type }}"}
        synthesize = GatedSparkOperator(
            task_id=SYNTHESIZE,
            job=SYNTHESIZE,
            job_args=[*SLICE_ARGS, "--type", data_type],
            uses_model=True,
            map_index_template="{{ task.application_args[-1] }}",
        )
        chain(
            EstimateOperator(task_id="estimate_samples", **asking),
            *([BatchOperator(task_id="batch_samples", **asking)] if SYNTHESIZE in settings.batch.stages else []),
            synthesize,
            export_samples(data_type=data_type),
        )

    # A teardown: it runs whatever happened before, and does not make a failed run look like a success.
    chain(make_samples.expand(data_type=list(registry.names())), report_samples().as_teardown())
