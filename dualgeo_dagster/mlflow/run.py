"""Logging to one MLflow run."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dualgeo_dagster.retries import comes_from_outside, waits_s

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric

TRY_AGAIN_SECONDS = 20.0
NOTE = "mlflow.note.content"  # MLflow's page shows this tag as the description


@dataclass(frozen=True)
class TrackedRun:
    """An MLflow run, addressed by its id. The process that writes to it need not be the one that ends it."""

    client: "MlflowClient"
    id: str

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        self.client.log_batch(self.id, metrics=points(metrics, step=0))

    def log_parameters(self, parameters: Mapping[str, str]) -> None:
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

        params = [Param(key, value[:MAX_PARAM_VAL_LENGTH]) for key, value in parameters.items()]
        for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self.id, params=params[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_figure(self, figure: "Figure", path: str, *, width_px: int | None = None) -> None:
        """Logs a figure as PNG, `width_px` wide or with 100 dots per inch."""
        dpi = 100 if width_px is None else width_px / figure.get_figwidth()
        self.client.log_figure(self.id, figure, path, save_kwargs={"dpi": dpi})

    def log_table(self, frame: "pd.DataFrame", path: str) -> None:
        """Logs a frame as JSON that MLflow's UI shows as a table."""
        self.client.log_table(self.id, data=frame, artifact_file=path)

    def log_page(self, text: str, path: str) -> None:
        self.client.log_text(self.id, text, path)

    def describe(self, section: str, text: str) -> None:
        """Puts a section on top of the run's description (Markdown), in place of an earlier one of the same title.

        The last sections say what came out, and MLflow's page shows only the first lines without a click.
        """
        note = self.client.get_run(self.id).data.tags.get(NOTE, "")
        sections = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=\n\n## |\Z)", note, re.MULTILINE | re.DOTALL))
        sections.pop(section, None)
        sections = {section: text, **sections}
        self.log_tags({NOTE: "\n\n".join(f"## {title}\n\n{body}" for title, body in sections.items())})

    def log_file(self, path: Path, folder: str) -> None:
        self.client.log_artifact(self.id, str(path), artifact_path=folder)

    def log_photo_set(self, name: str, *, folder: Path, dvc_hash: str, context: str) -> None:
        """Logs a photo set as a data set input of the run, with its DVC hash as digest and as tag."""
        from mlflow.data.dataset_source_registry import get_dataset_source_from_json
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        dataset = MetaDataset(  # type: ignore[abstract]
            source=get_dataset_source_from_json(json.dumps({"uri": str(folder)}), source_type="local"),
            name=name,
            digest=dvc_hash[:36],
        )
        tag = InputTag(key="mlflow.data.context", value=context)
        self.client.log_inputs(self.id, [DatasetInput(dataset=dataset._to_mlflow_entity(), tags=[tag])])
        self.log_tags({f"dvc.{name}": dvc_hash})


class Curve:
    """Metrics over training steps. Metrics that cannot be sent are kept and sent later."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._unsent: list[Metric] = []
        self._next_try = 0.0

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends these metrics and all unsent ones. Keeps them, without an error, if MLflow does not answer."""
        self._unsent += points(metrics, step)
        if time.monotonic() < self._next_try:
            return
        if not self._sent():
            self._next_try = time.monotonic() + TRY_AGAIN_SECONDS

    def finish(self) -> None:
        """Sends all unsent metrics, with the waits of a step's retries. Raises MLflow's error if it does not answer."""
        for wait_s in waits_s():
            if self._sent():
                return
            time.sleep(wait_s)
        self._send()

    def _sent(self) -> bool:
        try:
            self._send()
        except Exception as error:
            if not comes_from_outside(error):
                raise
            return False
        return True

    def _send(self) -> None:
        from mlflow.utils.validation import MAX_METRICS_PER_BATCH

        while self._unsent:
            self._run.client.log_batch(self._run.id, metrics=self._unsent[:MAX_METRICS_PER_BATCH])
            del self._unsent[:MAX_METRICS_PER_BATCH]


def points(metrics: Mapping[str, float], step: int) -> "list[Metric]":
    """The metrics of one step with the current time, in MLflow's type."""
    from mlflow.entities import Metric

    now = int(datetime.now().timestamp() * 1000)
    return [Metric(key, value, now, step) for key, value in metrics.items()]
