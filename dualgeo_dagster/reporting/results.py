"""Converts facts to Dagster metadata, fingerprints to data versions, and pictures and tables to Markdown."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.frames import TABLE
from dualgeo_core.base.progress import Progress, spoken
from dualgeo_dagster.profile import workspace
from dualgeo_dagster.reporting.columns import ROW_COUNT, table_facts

if TYPE_CHECKING:
    import pandas as pd

    from dualgeo_dagster.mlflow.tracking import Tracking

Metadata = Mapping[str, Any]
FINGERPRINT = "Content fingerprint"
NAMES = {
    "rows": ROW_COUNT,
    "fingerprint": FINGERPRINT,
    "computed": "Computed in this run",
    "taken_over": "Reused from earlier runs",
    "mean_iou": "Mean IoU with the true label maps (%)",
    "megabytes": "Size (MB)",
    "recall_at_20": "Recall@20 against exact search (%)",
    "old": "Champion before",
    "new": "Challenger",
    "metric": "Compared by",
    "margin": "Margin (points)",
    "difference": "Difference (points)",
    "interval_low": "Difference, 95 % low (points)",
    "interval_high": "Difference, 95 % high (points)",
}

SHARES = ("mean_iou", "recall_at_20")  # stored as fractions, shown in percent


def result(facts: Metadata, tracking: "Tracking") -> dg.MaterializeResult:
    """The result of an unpartitioned asset: the facts as metadata, the fingerprint as data version."""
    return dg.MaterializeResult(
        metadata={**named(facts), **tracking.links(tracking.run)},
        data_version=dg.DataVersion(str(facts["fingerprint"])),
    )


def results_by_benchmark(
    context: dg.AssetExecutionContext,
    tracking: "Tracking",
    make: Callable[[str], Metadata],
    table: str | None = None,
) -> dg.MaterializeResult:
    """Calls `make` for each benchmark of the run; adds its facts as metadata of its partition.

    `table` is the kind of an artifact whose rows and columns are added to the metadata. Dagster stores one data version
    for all partitions of a run. The version therefore covers every benchmark: the new results of this run and the last
    results of the others. It does not depend on how benchmarks are grouped into runs.
    """
    assert context.assets_def.partitions_def is not None
    versions = {key: _last_fingerprint(context, key) for key in context.assets_def.partitions_def.get_partition_keys()}
    for benchmark in context.partition_keys:
        facts = make(benchmark)
        versions[benchmark] = str(facts["fingerprint"])
        rows = table_facts(workspace().folder(table, benchmark) / TABLE) if table else {}
        links = tracking.links(tracking.benchmark_run(benchmark))
        context.add_asset_metadata({**named(facts), **rows, **links}, partition_key=benchmark)
    return dg.MaterializeResult(data_version=dg.DataVersion(fingerprint(versions)))


def named(facts: Metadata) -> Metadata:
    """The facts under the names that people read; Dagster's own names stay."""
    return {_name(name): _rounded(100 * fact if name in SHARES else fact) for name, fact in facts.items()}


def _rounded(fact: Any) -> Any:
    return float(f"{fact:.3g}") if isinstance(fact, float) else fact


def _name(fact: str) -> str:
    if fact in NAMES or "/" in fact:
        return NAMES.get(fact, fact)
    words = fact.replace("_", " ")
    return words[:1].upper() + words[1:]


def progress_log(context: dg.AssetExecutionContext) -> Progress:
    """Progress messages in the run's log, one every five seconds."""
    return spoken(context.log.info)


def picture(address: str, title: str) -> dg.MetadataValue[Any]:
    """A picture that another web server hands out. Dagster's page shows it openly, unlike an embedded one."""
    return dg.MetadataValue.md(f"![{title}]({address})")


def markdown_table(frame: "pd.DataFrame") -> dg.MetadataValue[Any]:
    """A small frame of text and whole numbers as a Markdown table."""
    header = "| " + " | ".join(map(str, frame.columns)) + " |\n|" + "---|" * len(frame.columns)
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)]
    return dg.MetadataValue.md("\n".join([header, *rows]))


def _last_fingerprint(context: dg.AssetExecutionContext, benchmark: str) -> str | None:
    wanted = dg.AssetRecordsFilter(asset_key=context.asset_key, asset_partitions=[benchmark])
    records = context.instance.fetch_materializations(wanted, limit=1).records
    if not records or records[0].asset_materialization is None:
        return None
    value = records[0].asset_materialization.metadata.get(FINGERPRINT)
    return None if value is None else str(value.value)
