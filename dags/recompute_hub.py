"""### The persona hub, deduplicated anew

Makes `gold.personas` anew from all candidates of all published slices, by the settings of now: after a threshold
(`PERSONA_HUB_DEDUP__*`) or the embedding model was changed, or without a slice that shall not have been. No model is
asked. The hub is then what the slices would have given one after the other by these settings, with the publication
numbers that they have: rows that were removed come back where nothing better is like them, others go.

Trigger it with three parameters:

- `dry_run` (default: on) changes nothing but adds signatures, and says in the log how many rows would come back and go.
- `data_type`: the samples of a type instead of the personas.
- `drop_slice`, such as `CC-MAIN-2026-30/00012`: that slice is taken out of every table but the ledger, the counts and
  `ops.publications`. Its exports are files: delete their folder.

**How to**

1. Set the new thresholds and restart Airflow (`PERSONA_HUB_DEDUP__COSINE=0.85 make up`). From now on deduplication and
   publication are refused, with both settings named, until the hub is recomputed.
2. Trigger this DAG, read the figures in the log, trigger it again with `dry_run` off.
3. Runs that were between deduplication and publication are refused: clear them from `deduplicate_personas`.
4. Where a setting has changed by which samples are compared (`WORDS`, `METHOD`, `CONTAINMENT`, `NGRAM`), trigger it for
   each data type as well: its published samples are compared anew, in one commit.
5. Clear the runs of `synthesize_tasks`: personas that came back get their samples, samples of those that went go, and
   what was asked before is not asked again.

**When it fails**

| look for | then |
| --- | --- |
| `The hub has changed while …`, `Candidates have changed while the hub was recomputed` | a slice was run meanwhile: pause `extract_personas`, clear the task |
| `Lease … is held by` | another run of it, or a publication: wait, the next try goes on |
| `is no slice key`, `is not known` | correct `drop_slice` |
| memory | a larger `spark.driver.memory` in the connection `spark_default`, extra `conf` |
| killed, or anything else | clear the task: it may be run again at any point; until it ends well nothing is published |

**Why is this row gone?** `python -m local.why ROW_ID` says it, and what a row replaced.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from persona_hub.core.keys import SLICE_PATTERN
from persona_hub.settings import load_settings
from persona_hub.synthesis import registry
from persona_hub_airflow.report import HUB_ARGS
from persona_hub_airflow.spark import PersonaHubSparkOperator, retry_policy

with DAG(
    "recompute_hub",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=retry_policy(load_settings()),
    params={
        "drop_slice": Param(
            "",
            type="string",
            pattern=f"^({SLICE_PATTERN})?$",
            title="Slice to drop",
            description="as in CC-MAIN-2026-30/00012; empty for none",
        ),
        "data_type": Param(
            "",
            type="string",
            enum=["", *registry.names()],
            title="Data type",
            description="whose samples are compared anew; empty for the personas",
        ),
        "dry_run": Param(True, type="boolean", title="Dry run", description="say what would change, and change nothing"),
    },
    doc_md=__doc__,
    tags=["persona_hub"],
):
    PersonaHubSparkOperator(
        task_id="recompute_hub",
        job="recompute_hub",
        job_args=[
            *(*HUB_ARGS, "--type", "{{ params.data_type }}", "--drop", "{{ params.drop_slice }}"),
            "--{{ '' if params.dry_run else 'no-' }}dry-run",
        ],
        per_slice=False,
    )
