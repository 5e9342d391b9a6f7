"""MLflow as a Dagster resource: one MLflow run per Dagster run, found by its tag or begun."""

import json
import logging
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

RUN_TAG = "dagster.run_id"
EXPERIMENT = "dualgeo"


class Tracking(dg.ConfigurableResource):
    """The MLflow run that belongs to the Dagster run in progress; it begins with the first thing logged."""

    tracking_uri: str
    artifact_location: str | None
    ui: str
    home: str
    profile: str
    parameters: dict[str, str]
    _dagster_run_id: str = PrivateAttr()
    _client: Any = PrivateAttr(None)
    _run_id: str | None = PrivateAttr(None)
    _monitor: Any = PrivateAttr(None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        assert context.dagster_run is not None
        self._dagster_run_id = context.dagster_run.run_id

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        from mlflow.exceptions import MlflowException

        if self._run_id is None:
            return
        self._monitor.finish()
        assert context.instance is not None
        failures = context.instance.all_logs(self._dagster_run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        try:
            self._client.set_terminated(self._run_id, status="FAILED" if failures else "FINISHED")
            end_abandoned(self._client, self._experiment_id(), context.instance)
        except MlflowException as error:  # what the steps made and said stands without MLflow's closing entry
            assert context.log is not None
            context.log.warning(f"the MLflow run {self._run_id} is left open: {error}")

    @property
    def client(self) -> "MlflowClient":
        if self._client is None:
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.tracking_uri)
        return self._client

    @property
    def run_id(self) -> str:
        """The MLflow run of this Dagster run."""
        if self._run_id is None:
            self._run_id = self._find_or_begin()
            self._monitor = self._watch_system(self._run_id)
        return self._run_id

    @property
    def links(self) -> dict[str, dg.MetadataValue[Any]]:
        """Metadata that leads from an asset to its MLflow run."""
        experiment_id = self.client.get_run(self.run_id).info.experiment_id
        url = f"{self.ui}/#/experiments/{experiment_id}/runs/{self.run_id}"
        return {"mlflow_run": dg.MetadataValue.url(url), "mlflow_run_id": dg.MetadataValue.text(self.run_id)}

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(datetime.now().timestamp() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()])

    def log_figure(self, figure: "Figure", path: str) -> None:
        self.client.log_figure(self.run_id, figure, path)

    def log_frame(self, frame: "pd.DataFrame", path: str) -> None:
        self.client.log_table(self.run_id, data=frame, artifact_file=path)

    def log_file(self, path: Path, folder: str) -> None:
        self.client.log_artifact(self.run_id, str(path), artifact_path=folder)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

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
        self.client.log_inputs(self.run_id, [DatasetInput(dataset=dataset._to_mlflow_entity(), tags=[tag])])
        self.log_tags({f"dvc.{name}": dvc_hash})

    def find_run(self, dagster_run_id: str) -> str | None:
        """The MLflow run of a Dagster run, where there is one."""
        filter_string = f"tags.`{RUN_TAG}` = '{dagster_run_id}'"
        found = self.client.search_runs([self._experiment_id()], filter_string=filter_string)
        return str(found[0].info.run_id) if found else None

    def _find_or_begin(self) -> str:
        found = self.find_run(self._dagster_run_id)
        if found is not None:
            return found
        experiment_id = self._experiment_id()
        started = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        tags = {RUN_TAG: self._dagster_run_id, "profile": self.profile, "git.commit": _commit(self.home)}
        run = self.client.create_run(experiment_id, tags=tags, run_name=f"{self.profile} {started}")
        self._log_parameters(str(run.info.run_id))
        return str(run.info.run_id)

    def _experiment_id(self) -> str:
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return str(experiment.experiment_id)
        return self.client.create_experiment(
            EXPERIMENT,
            artifact_location=self.artifact_location,
            tags={"mlflow.experimentKind": "custom_model_development"},  # the UI then opens on runs, not on traces
        )

    def _log_parameters(self, run_id: str) -> None:
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

        params = [Param(key, value[:MAX_PARAM_VAL_LENGTH]) for key, value in self.parameters.items()]
        for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(run_id, params=params[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    def _watch_system(self, run_id: str) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        monitor = SystemMetricsMonitor(run_id, tracking_uri=self.tracking_uri, resume_logging=True)
        monitor.start()
        return monitor


def end_abandoned(client: "MlflowClient", experiment_id: str, instance: dg.DagsterInstance) -> None:
    """Ends MLflow runs that are still open although their Dagster run is over: it was killed, or MLflow was away."""
    for run in client.search_runs([experiment_id], filter_string="attributes.status = 'RUNNING'"):
        dagster_run = instance.get_run_by_id(run.data.tags.get(RUN_TAG, ""))
        if dagster_run is not None and dagster_run.is_finished:
            client.set_terminated(run.info.run_id, status="KILLED")


def flat_parameters(section: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow parameters: `training.batch_size` -> `256`."""
    flat: dict[str, str] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            flat |= flat_parameters(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _commit(home: str) -> str:
    """The commit that is checked out, with `+changes` where files differ from it; `none` outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+changes"], cwd=home, capture_output=True, text=True
    )
    return described.stdout.strip() or "none"
