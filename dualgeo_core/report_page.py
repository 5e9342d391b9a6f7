"""The last evaluation as one page that any browser opens: the comparison of methods, error curves, maps."""

import base64
import html
import io

import pandas as pd
from matplotlib.figure import Figure

from dualgeo_core import plots
from dualgeo_core.methods import main_method
from dualgeo_core.report import comparison_table, for_people, read_scores
from dualgeo_core.stage2 import read_predictions
from dualgeo_core.workspace import Workspace

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; width: 100% }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
figure { margin: 1rem 0 } img { max-width: 100% } figcaption { color: #666 }
"""


def report_page(workspace: Workspace) -> str:
    """HTML that needs no other file; raises InputError where a benchmark has no scores of its present predictions."""
    sections = []
    main = main_method(workspace.profile).name
    for benchmark, by_method in read_scores(workspace).items():
        predictions, truth = read_predictions(workspace, benchmark), workspace.photos(benchmark).frame
        found = {str(name): rows.drop(columns="method") for name, rows in predictions.groupby("method", sort=False)}
        table = comparison_table({benchmark: by_method}).drop(columns="benchmark")
        sections += [
            f"<h2>{html.escape(benchmark)}</h2><p>{len(truth)} photos by {truth['author'].nunique()} photographers; "
            "accuracy in % within each distance, 95 % interval by photographer</p>",
            _table(table),
            _figure(plots.error_cdf(found, truth), "Share of photos located within each distance"),
            _figure(plots.error_map(found[main], truth), f"Errors of {main}"),
            _figure(plots.coverage_curve(found[main], truth), f"{main}, answering its surest photos first"),
        ]
    title = f"DualGeo: {html.escape(workspace.profile.name)}"
    head = f"<meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body><h1>{title}</h1>{''.join(sections)}</body></html>"


def _table(frame: pd.DataFrame) -> str:
    return for_people(frame).to_html(index=False, border=0, float_format="{:.1f}".format, na_rep="")


def _figure(figure: Figure, caption: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f"<figure><img src='data:image/png;base64,{encoded}' alt='{text}'><figcaption>{text}</figcaption></figure>"
