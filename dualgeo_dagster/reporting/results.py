"""What assets tell Dagster: facts as metadata, fingerprints as data versions, figures as pictures, progress lines."""

import base64
import io
import math
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
    from matplotlib.figure import Figure

    from dualgeo_dagster.mlflow.tracking import Tracking

Facts = Mapping[str, Any]


def result(facts: Facts, tracking: "Tracking") -> dg.MaterializeResult:
    """The result of an unpartitioned asset: its fingerprint is its data version, all facts are its metadata."""
    return dg.MaterializeResult(
        metadata={**_metadata(facts), **tracking.links(tracking.run)},
        data_version=dg.DataVersion(str(facts["fingerprint"])),
    )


def results_by_benchmark(
    context: dg.AssetExecutionContext,
    tracking: "Tracking",
    make: Callable[[str], Facts],
    table: str | None = None,
) -> dg.MaterializeResult:
    """Makes each benchmark of the run; metadata is each partition's own, with the rows and columns of its table, an
    artifact of the kind `table`.

    A run over several partitions has one data version for all of them, so the version covers every benchmark: those
    of this run and what the others were last. It is the same whether benchmarks are made together or one by one.
    """
    assert context.assets_def.partitions_def is not None
    versions = {key: _last_fingerprint(context, key) for key in context.assets_def.partitions_def.get_partition_keys()}
    for benchmark in context.partition_keys:
        facts = make(benchmark)
        versions[benchmark] = str(facts["fingerprint"])
        rows = table_facts(workspace().folder(table, benchmark) / TABLE) if table else {}
        links = tracking.links(tracking.benchmark_run(benchmark))
        context.add_asset_metadata({**_metadata(facts), **rows, **links}, partition_key=benchmark)
    return dg.MaterializeResult(data_version=dg.DataVersion(fingerprint(versions)))


def _metadata(facts: Facts) -> Facts:
    """The core's facts under Dagster's names."""
    return {ROW_COUNT if name == "rows" else name: fact for name, fact in facts.items()}


def progress_log(context: dg.AssetExecutionContext) -> Progress:
    """Progress as log lines of the run, every five seconds."""
    return spoken(context.log.info)


def picture(figure: "Figure", title: str) -> dg.MetadataValue[Any]:
    """A figure that Dagster's UI shows in the asset's metadata."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{encoded})")


def markdown_table(frame: "pd.DataFrame") -> dg.MetadataValue[Any]:
    """A small frame as a Markdown table."""
    header = "| " + " | ".join(map(str, frame.columns)) + " |\n|" + "---|" * len(frame.columns)
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in frame.itertuples(index=False)]
    return dg.MetadataValue.md("\n".join([header, *rows]))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.1f}"
    return str(value)


def _last_fingerprint(context: dg.AssetExecutionContext, benchmark: str) -> str | None:
    wanted = dg.AssetRecordsFilter(asset_key=context.asset_key, asset_partitions=[benchmark])
    records = context.instance.fetch_materializations(wanted, limit=1).records
    if not records or records[0].asset_materialization is None:
        return None
    value = records[0].asset_materialization.metadata.get("fingerprint")
    return None if value is None else str(value.value)
