"""The gate: runs the suites, writes Data Docs, and stops the run before anything is published."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import great_expectations as gx
import pandas as pd
from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
from great_expectations.data_context import EphemeralDataContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from persona_hub.errors import GateFailed
from persona_hub.quality.suites import DEDUP_RECALL, DISTINCT_SHARE, REJECTED_SHARE, build_row_suite, build_slice_suite
from persona_hub.settings import Settings
from persona_hub.tables.model import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SliceFigures:
    """A slice as a whole: answers read, refused by rules, and texts that passed, copies of each other included.

    `recall` is the highest likely share of similar pairs that deduplication has found.
    """

    answers: int
    refused: int
    texts: int
    distinct_texts: int
    recall: float = 1.0

    def as_row(self) -> dict[str, float]:
        return {
            REJECTED_SHARE: self.refused / self.answers if self.answers else 0.0,
            DISTINCT_SHARE: self.distinct_texts / self.texts if self.texts else 1.0,
            DEDUP_RECALL: self.recall,
        }


def check_slice(rows: DataFrame, figures: SliceFigures, table: Table, slice_key: str, settings: Settings) -> Path:
    """Checks a slice's rows and figures against the suites of its table.

    Returns:
        The Data Docs' first page.

    Raises:
        GateFailed: a critical expectation failed; says which, what was seen, and where the Data Docs lie.
    """
    folder = Path(settings.reports) / slice_key / table.name
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.add_data_docs_site("local", _describe_site(folder))
    results = [
        _validate_rows(context, rows, table),
        _validate_figures(context, figures, table, settings),
    ]
    context.build_data_docs()
    page = folder / "index.html"
    failed = [(severity, line) for result in results for severity, line in _describe_failures(result)]
    failures = [line for severity, line in failed if severity == "critical"]
    for severity, line in failed:
        log.warning("%s: %s", severity, line)
    log.info("gate of %s: %d expectations, %d failed, Data Docs %s",
             table.name, sum(len(result.results) for result in results), len(failed), page)  # fmt: skip
    if failures:
        raise GateFailed(
            f"The gate of {table.name} for {slice_key} failed: " + "; ".join(failures),
            wanted="every critical expectation to hold",
            cure=f"see the Data Docs at {page}; nothing was published. Mend prompt, model or rules, "
            "or move the limit (PERSONA_HUB_QUALITY__*), and clear the task",
        )
    return page


def measure_slice(accepted: DataFrame, answers: int, recall: float = 1.0) -> SliceFigures:
    """Figures of a slice.

    Args:
        accepted: rows with text_hash whose answers passed the rules, before copies are taken out: a model that
            says the same to everybody shows in them.
        answers: all that were read.
        recall: as in SliceFigures.
    """
    row = accepted.agg(F.count("text_hash"), F.countDistinct("text_hash")).first()
    assert row is not None
    return SliceFigures(answers, answers - row[0], row[0], row[1], recall)


def _validate_rows(context: EphemeralDataContext, rows: DataFrame, table: Table) -> ExpectationSuiteValidationResult:
    source = context.data_sources.add_or_update_spark("rows", persist=False)
    batch = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("slice")
    return _run(context, batch, build_row_suite(table), rows)


def _validate_figures(
    context: EphemeralDataContext, figures: SliceFigures, table: Table, settings: Settings
) -> ExpectationSuiteValidationResult:
    source = context.data_sources.add_or_update_pandas("figures")
    batch = source.add_dataframe_asset("figures").add_batch_definition_whole_dataframe("slice")
    suite = build_slice_suite(table, settings, figures.answers)
    return _run(context, batch, suite, pd.DataFrame([figures.as_row()]))


def _run(
    context: EphemeralDataContext, batch: object, suite: gx.ExpectationSuite, frame: object
) -> ExpectationSuiteValidationResult:
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=suite.name, data=batch, suite=context.suites.add(suite))
    )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=suite.name, validation_definitions=[definition], result_format="SUMMARY")
    )
    result = checkpoint.run(batch_parameters={"dataframe": frame})
    only: ExpectationSuiteValidationResult = next(iter(result.run_results.values()))
    return only


def _describe_failures(result: ExpectationSuiteValidationResult) -> list[tuple[str, str]]:
    lines = []
    for one in result.results:
        if one.success:
            continue
        configuration = one.expectation_config
        assert configuration is not None
        kwargs = {k: v for k, v in configuration.kwargs.items() if k not in ("batch_id",)}
        seen = one.result.get("observed_value")
        if seen is None:
            seen = f"{one.result.get('unexpected_count')} of {one.result.get('element_count')} rows, such as "
            seen += repr(one.result.get("partial_unexpected_list", [])[:3])
        line = f"{configuration.type} {kwargs}: saw {seen}" + _describe_exception(one.exception_info)
        lines.append((str(getattr(configuration.severity, "value", configuration.severity)), line))
    return lines


def _describe_exception(info: dict[str, object] | None) -> str:
    raised = [v for v in (info or {}).values() if isinstance(v, dict) and v.get("raised_exception")]
    return f" ({raised[0].get('exception_message')})" if raised else ""


def _describe_site(folder: Path) -> dict[str, object]:
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }
