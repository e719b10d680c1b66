"""Every table, described once; DDL, constraints, schemas, expectations and docs/tables.md are derived from here."""

from __future__ import annotations

from persona_hub.tables import bronze, gold, ops, silver
from persona_hub.tables.model import Column, Table

FIXED: tuple[Table, ...] = (
    bronze.CRAWL_FILES,
    bronze.PAGES,
    silver.QUESTIONS,
    silver.COMPLETIONS,
    silver.CANDIDATES,
    silver.SURVIVORS,
    silver.WORD_KEYS,
    silver.VECTORS,
    silver.VECTOR_CELLS,
    silver.REFERENCES,
    silver.REMOVALS,
    gold.PERSONAS,
    ops.STAGE_COUNTS,
    ops.PUBLICATIONS,
    ops.FAILED_FILES,
)

__all__ = ["FIXED", "Column", "Table"]
