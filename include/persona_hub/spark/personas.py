"""The persona hub as a corpus of the dedup engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.spark.dedup import make_cell_step, make_word_step
from persona_hub.spark.job import Job
from persona_hub.spark.outcome import Step
from persona_hub.spark.references import WORD_ORDER, read_reference
from persona_hub.spark.signatures import Corpus
from persona_hub.spark.tables import read_table
from persona_hub.spark.word_step import WordStep
from persona_hub.tables.bronze import PAGES
from persona_hub.tables.gold import PERSONAS


def open_personas(job: Job) -> tuple[Corpus, list[Step]]:
    """The corpus, and the paper's two steps: word sets, then embeddings (section 2.3)."""
    corpus = Corpus("personas", PERSONAS, job.lake, job.spark)
    return corpus, [make_word_step(job.settings), make_cell_step(corpus, job.settings)]

def add_word_order(corpus: Corpus, steps: Sequence[Step]) -> list[Step]:
    """The steps with the stored order of words where their keys need one: as those rows were signed that are published."""
    ready: list[Step] = []
    for step in steps:
        if isinstance(step, WordStep) and step.method.needs_order:
            payload, version, _ = read_reference(corpus, WORD_ORDER, "")
            order = np.frombuffer(payload or b"", "<u8")
            ready.append(replace(step, method=replace(step.method, order=order, order_version=version)))
        else:
            ready.append(step)
    return ready


def select_rows(personas: DataFrame) -> DataFrame:
    """Personas, of whatever table, as the engine takes rows: row_id, slice, text, text_hash, and publication if they have one."""
    renamed = personas.withColumnsRenamed({"persona_id": "row_id", "persona": "text"})
    known = [name for name in ("row_id", "slice", "text", "text_hash", "publication") if name in renamed.columns]
    return renamed.select(*known)


def shape_personas(job: Job, candidates: DataFrame, slice_keys: Sequence[str]) -> DataFrame:
    """Candidates as rows of gold.personas, with what else they carry: the address of the page, no parent yet."""
    pages = read_table(job.spark, job.lake, PAGES).where(F.col("slice").isin(list(slice_keys))).select("page_id", "url")
    return candidates.join(pages, on="page_id", how="inner").withColumns(
        {"parent_id": F.lit(None).cast("STRING"), "relation": F.lit(None).cast("STRING"), "hop": F.lit(0)}
    )
