"""The last evaluation as one HTML page: comparison of methods, error curves, maps."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dualgeo_core.evaluation import plots
from dualgeo_core.evaluation.report import comparison_table, for_people
from dualgeo_core.evaluation.scores import TOO_FEW, enough_photographers
from dualgeo_core.evaluation.strata import worst_stratum

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; width: 100% }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
figure { margin: 1rem 0 } img { max-width: 100% } figcaption { color: #666 }
"""


@dataclass(frozen=True)
class BenchmarkResult:
    """One benchmark of the report: scores and predictions by method, and the true positions."""

    scores: Mapping[str, dict[str, Any]]
    predictions: Mapping[str, pd.DataFrame]
    truth: pd.DataFrame


def report_page(
    results: Mapping[str, BenchmarkResult],
    *,
    profile: str,
    main_method: str,
    strata: pd.DataFrame,
    doubts: Sequence[str],
) -> str:
    """A self-contained HTML page with one section per benchmark, coverage by stratum, and what is in doubt."""
    title = f"DualGeo: {html.escape(profile)}"
    head = f"<meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    overview = plots.benchmarks({name: result.scores[main_method] for name, result in results.items()})
    body = _figure(overview, f"All benchmarks, {main_method}")
    body += "".join(_section(name, result, main_method=main_method) for name, result in results.items())
    notes = "".join(f"<p><strong>Note:</strong> {html.escape(doubt)}.</p>" for doubt in doubts)
    coverage = _coverage(strata)
    return (
        f"<!doctype html><html lang='en'><head>{head}</head><body><h1>{title}</h1>{notes}{body}{coverage}</body></html>"
    )


def _coverage(strata: pd.DataFrame) -> str:
    worst = worst_stratum(strata)
    told = "no stratum has enough photos to tell"
    if len(worst):
        row = worst.iloc[0]
        told = f"{row['kind']}, {row['stratum']}: {row['coverage_90']:.1f} % ({row['photos']} photos)"
    return f"<h2>Coverage by stratum</h2><p>Farthest from 90 %: {html.escape(told)}.</p>{_table(strata)}"


def _section(benchmark: str, result: BenchmarkResult, *, main_method: str) -> str:
    truth, main = result.truth, result.predictions[main_method]
    table = comparison_table({benchmark: dict(result.scores)}).drop(columns="benchmark")
    parts = [
        f"<h2>{html.escape(benchmark)}</h2><p>{len(truth)} photos by {truth['author'].nunique()} photographers. "
        f"95 % intervals: {'bootstrap over photographers' if enough_photographers(truth) else TOO_FEW}.</p>",
        _table(table),
        _figure(plots.error_cdf(result.predictions, truth), "Share of photos within each distance"),
        _figure(plots.error_map(main, truth), f"Errors of {main_method}"),
        _figure(plots.coverage_curve(main, truth), f"Accuracy of {main_method} over the share of photos answered"),
    ]
    return "".join(parts)


def _table(frame: pd.DataFrame) -> str:
    return for_people(frame).to_html(index=False, border=0, float_format="{:.1f}".format, na_rep="")


def _figure(figure: Figure, caption: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f"<figure><img src='data:image/png;base64,{encoded}' alt='{text}'><figcaption>{text}</figcaption></figure>"
