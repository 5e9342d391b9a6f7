"""One MLflow run, and what can be written to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient


@dataclass(frozen=True)
class TrackedRun:
    """A run by its id; it may be another process that ends it."""

    client: "MlflowClient"
    id: str

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(datetime.now().timestamp() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])

    def log_parameters(self, parameters: Mapping[str, str]) -> None:
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

        params = [Param(key, value[:MAX_PARAM_VAL_LENGTH]) for key, value in parameters.items()]
        for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self.id, params=params[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_figure(self, figure: "Figure", path: str) -> None:
        self.client.log_figure(self.id, figure, path)

    def log_table(self, frame: "pd.DataFrame", path: str) -> None:
        """A frame as the JSON that MLflow's UI shows as a table."""
        self.client.log_table(self.id, data=frame, artifact_file=path)

    def log_page(self, html: str, path: str) -> None:
        self.client.log_text(self.id, html, path)

    def log_file(self, path: Path, folder: str) -> None:
        self.client.log_artifact(self.id, str(path), artifact_path=folder)

    def log_photo_set(self, name: str, *, folder: Path, dvc_hash: str, context: str) -> None:
        """Records a photo set as the run's data set input, with its DVC hash as digest and as tag."""
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
