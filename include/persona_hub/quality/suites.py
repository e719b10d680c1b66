"""Suites: what must hold for a slice before it is published.

Of the rows, as their table describes them: no nulls, the key unique, ids and lengths as said. Of the slice as a
whole (one row of figures): how much the rules refused, how many texts are distinct.
"""

from __future__ import annotations

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation

from persona_hub.settings import Settings
from persona_hub.tables.model import Table

REJECTED_SHARE = "rejected_share"
DISTINCT_SHARE = "distinct_share"
DEDUP_RECALL = "dedup_recall"


def build_row_suite(table: Table) -> ExpectationSuite:
    """Expectations of the rows of a slice, all critical."""
    expectations: list[Expectation] = [gxe.ExpectTableColumnsToMatchSet(column_set=table.column_names, severity="critical")]
    for column in table.columns:
        if not column.nullable:
            expectations.append(gxe.ExpectColumnValuesToNotBeNull(column=column.name, severity="critical"))
        if column.pattern:
            expectations.append(
                gxe.ExpectColumnValuesToMatchRegex(column=column.name, regex=column.pattern, severity="critical")
            )
        if column.length:
            low, high = column.length
            expectations.append(
                gxe.ExpectColumnValueLengthsToBeBetween(
                    column=column.name, min_value=low, max_value=high, severity="critical"
                )
            )
    if len(table.key) == 1:
        expectations.append(gxe.ExpectColumnValuesToBeUnique(column=table.key[0], severity="critical"))
    else:
        expectations.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=list(table.key), severity="critical"))
    return ExpectationSuite(name=f"{table.name} rows", expectations=expectations)


def build_slice_suite(table: Table, settings: Settings, answers: int) -> ExpectationSuite:
    """Expectations of the slice's figures: a bad prompt or model shows here, in no single row.

    Args:
        answers: of the slice; a share of fewer than `quality.min_answers` says little, so it stops nothing.
    """
    severity = "critical" if answers >= settings.quality.min_answers else "warning"
    return ExpectationSuite(
        name=f"{table.name} slice",
        expectations=[
            gxe.ExpectColumnMaxToBeBetween(
                column=REJECTED_SHARE, max_value=settings.quality.max_rejected_share, severity=severity
            ),
            gxe.ExpectColumnMinToBeBetween(
                column=DISTINCT_SHARE, min_value=settings.quality.min_distinct_share, severity=severity
            ),
            gxe.ExpectColumnMinToBeBetween(
                column=DEDUP_RECALL, min_value=settings.dedup.min_recall, severity="critical"
            ),
        ],
    )
