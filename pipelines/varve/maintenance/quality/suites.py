"""The suites of expectations, judged by Great Expectations.

It is imported here and nowhere else, as it is large and comes with the extra `quality` alone.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varve.maintenance.quality.facts import Facts
from varve.model.schema import table_schema

_SITE = "docs"
_EXAMPLES = 3
_TYPES = ["counter", "gauge", "histogram", "summary", "unknown", "info", "stateset"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is expected, beside what must be. Shares are 0 to 1."""

    max_null_share: float
    max_gap_share: float
    max_reset_share: float
    share_of_series: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of an expectation. The fields are columns of the table quality."""

    suite: str
    expectation: str
    column_name: str | None
    success: bool
    rows: int | None
    unexpected: int | None
    observed: str | None


def judge(
    facts: Facts, window_ms: tuple[int, int], thresholds: Thresholds, docs: Path | None
) -> list[Judgement]:
    """Judges all facts. docs: a folder for pages about the run (`index.html`); None for none.

    Raises NeedsOperator if Great Expectations is not installed.
    """
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    actions = []
    if docs is not None:
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)}
        context.add_data_docs_site(
            _SITE,
            {
                "class_name": "SiteBuilder",
                "store_backend": store,
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            },
        )
        actions = [gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=[_SITE])]
    source = context.data_sources.add_pandas("varve")
    found = []
    for name, expectations in _suites(gx.expectations, window_ms, thresholds).items():
        if name not in facts:
            continue
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite)
        )
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=name,
                validation_definitions=[definition],
                actions=actions,
                result_format={"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES},
            )
        )
        result = checkpoint.run(batch_parameters={"dataframe": facts[name]()})
        for run in result.run_results.values():
            found += [_judgement(name, one) for one in run.results]
    return found


def _great_expectations() -> Any:
    # It would tell its makers of each run.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx  # noqa: PLC0415 - large, and nothing else needs it
        import great_expectations.checkpoint  # noqa: PLC0415
        import great_expectations.expectations  # noqa: PLC0415
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return gx


def _suites(
    gxe: Any, window_ms: tuple[int, int], thresholds: Thresholds
) -> Mapping[str, Sequence[Any]]:
    """Expectations by suite."""
    start, end = window_ms
    series = {"mostly": thresholds.share_of_series}
    return {
        "samples": [
            *_schema(gxe, "samples"),
            gxe.ExpectColumnValuesToNotBeNull(column="value", mostly=1 - thresholds.max_null_share),
            gxe.ExpectColumnValuesToBeBetween(
                column="ts", min_value=start, max_value=end, strict_min=True
            ),
        ],
        "series": [
            *_schema(gxe, "series"),
            gxe.ExpectColumnValueLengthsToBeBetween(column="metric", min_value=1),
            gxe.ExpectColumnValuesToBeInSet(column="type", value_set=_TYPES),
        ],
        **{table: list(_rollup(gxe, table, start, end)) for table in _ROLLUPS},
        "counters": [
            gxe.ExpectColumnValuesToBeBetween(
                column="reset_share", max_value=thresholds.max_reset_share, **series
            )
        ],
        "gaps": [
            gxe.ExpectColumnValuesToBeBetween(
                column="gap_share", max_value=thresholds.max_gap_share, **series
            )
        ],
        "frontier": [
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="bound_s", column_B="age_s", or_equal=True
            )
        ],
        "accounting": [gxe.ExpectColumnValuesToBeInSet(column="unaccounted", value_set=[0])],
        "recomputed": [gxe.ExpectColumnValuesToBeInSet(column="differing", value_set=[0])],
    }


_ROLLUPS = ("rollup_1m", "rollup_5m", "rollup_1h", "rollup_1d")


def _schema(gxe: Any, table: str) -> Iterator[Any]:
    """The columns are the table's, and those that are never NULL are not."""
    schema = table_schema(table)
    yield gxe.ExpectTableColumnsToMatchOrderedList(column_list=schema.names())
    for column in schema.columns:
        if not column.nullable:
            yield gxe.ExpectColumnValuesToNotBeNull(column=column.name)


def _rollup(gxe: Any, table: str, start: int, end: int) -> Iterator[Any]:
    yield from _schema(gxe, table)
    yield gxe.ExpectColumnValuesToBeBetween(
        column="window_end", min_value=start, max_value=end, strict_min=True
    )
    for column in ("count", "nan_count", "resets", "changes"):
        yield gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0)
    yield gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="max", column_B="min", or_equal=True, ignore_row_if="either_value_is_missing"
    )
    yield gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="count", column_B="resets", or_equal=True
    )


def _judgement(suite: str, result: Any) -> Judgement:
    kwargs, said = result.expectation_config.kwargs, result.result or {}
    columns = [kwargs[k] for k in ("column", "column_A", "column_B") if k in kwargs]
    observed = said.get("observed_value", said.get("partial_unexpected_list") or None)
    for info in _exceptions(result.exception_info):
        observed = f"could not be judged: {info}"
    return Judgement(
        suite,
        result.expectation_config.type,
        ", ".join(columns) or None,
        bool(result.success),
        said.get("element_count"),
        said.get("unexpected_count"),
        None if observed is None else str(observed)[:1_000],
    )


def _exceptions(info: Mapping[str, Any] | None) -> Iterator[str]:
    """What went wrong in the judging: the information is flat, or by metric."""
    if not info:
        return
    for one in [info] if "raised_exception" in info else info.values():
        if isinstance(one, Mapping) and one.get("raised_exception"):
            yield str(one.get("exception_message"))
