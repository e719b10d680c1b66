"""silver.persona_candidates → silver.persona_survivors: word sets, then embeddings, within the slice and the hub."""

from __future__ import annotations

from persona_hub.spark.job import run_job
from persona_hub.spark.persona_dedup import deduplicate_personas

if __name__ == "__main__":
    run_job(deduplicate_personas)
