"""MLflow as a Dagster resource: one MLflow run per Dagster run.

It has a child run per benchmark, one per trained representation, and one for the load of the machine.

An existing MLflow run is found by its tags. A rebuild after new photos consists of several Dagster runs, which share
one MLflow run until the promotion decision.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from dualgeo_dagster.mlflow.links import file_of_run, run_page
from dualgeo_dagster.mlflow.provenance import commit, is_rebuild, origin, parameters, run_name, settings_file
from dualgeo_dagster.mlflow.run import TrackedRun
from dualgeo_dagster.mlflow.store import tracking_store, without_password
from dualgeo_dagster.profile import NAME, workspace
from dualgeo_dagster.settings import TrackingEnvironment

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = f"dualgeo-{NAME}"
DAGSTER_RUN, REBUILD_TAG = "dagster.run_id", "rebuild"
PARENT, PART = "mlflow.parentRunId", "part"
SYSTEM = "system"  # the child run with the load of the machine


class Tracking(dg.ConfigurableResource):
    """The MLflow run of the current Dagster run, created at the first access.

    The resource has no public fields, because Dagster's launchpad would show each of them.
    """

    _dagster_run: dg.DagsterRun = PrivateAttr()
    _instance: dg.DagsterInstance = PrivateAttr()
    _client: Any = PrivateAttr(None)
    _run: TrackedRun | None = PrivateAttr(None)
    _children: dict[str, TrackedRun] = PrivateAttr(default_factory=dict)
    _monitor: Any = PrivateAttr(None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        assert context.dagster_run is not None
        assert context.instance is not None
        self._dagster_run, self._instance = context.dagster_run, context.instance
        self.tag_dagster_run({"profile": NAME, "commit": commit(workspace().settings.home)})

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        from mlflow.exceptions import MlflowException

        if self._run is None:
            return
        if self._monitor is not None:
            self._monitor.finish()
        failures = self._instance.all_logs(self._dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        try:
            for run in (*self._children.values(), self._run):
                self.client.set_terminated(run.id, status="FAILED" if failures else "FINISHED")
        except MlflowException as error:  # the results are complete without this entry
            assert context.log is not None
            context.log.warning(
                without_password(f"the MLflow run {self._run.id} stays open, because MLflow failed: {error}")
            )

    @property
    def tracking_uri(self) -> str:
        return tracking_store(workspace().settings.home).tracking_uri

    @property
    def client(self) -> "MlflowClient":
        if self._client is None:
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.tracking_uri)
        return self._client

    @property
    def run(self) -> TrackedRun:
        """The MLflow run of this Dagster run."""
        if self._run is None:
            found = self._search(self._identity)
            self._run = self._resume(found[0]) if found else self._begin()
        if self._monitor is None:
            self._monitor = self._watch_system(self._part(self._run, SYSTEM).id)
        return self._run

    @property
    def _identity(self) -> dict[str, str]:
        """The tags that identify the MLflow run."""
        if is_rebuild(self._dagster_run):
            return {REBUILD_TAG: "open"}
        return {DAGSTER_RUN: self._dagster_run.run_id}

    def benchmark_run(self, benchmark: str) -> TrackedRun:
        """The child run of one benchmark. Metric names are the same for all benchmarks."""
        return self._part(self.run, f"benchmark {benchmark}")

    def training_run(self, representation: str) -> TrackedRun:
        """The child run with the curves of one trained representation."""
        return self._part(self.run, f"training {representation}")

    def _part(self, parent: TrackedRun, part: str) -> TrackedRun:
        if part not in self._children:
            found = self._search({PARENT: parent.id, PART: part})
            self._children[part] = TrackedRun(self.client, found[0]) if found else self._begin_child(parent, part)
        return self._children[part]

    def close_rebuild(self) -> None:
        """Ends the shared MLflow run of a rebuild; the next rebuild creates a new one."""
        if is_rebuild(self._dagster_run):
            self.run.log_tags({REBUILD_TAG: "done"})

    def links(self, run: TrackedRun) -> dict[str, dg.MetadataValue[Any]]:
        """Asset metadata with a link to an MLflow run."""
        return {"MLflow": dg.MetadataValue.md(f"[run {run.id}]({self.page_of(run.id)})")}

    def page_of(self, run_id: str) -> str:
        """The address of a run's page."""
        return run_page(TrackingEnvironment().ui, self._experiment_id(), run_id)

    def file_of(self, run: TrackedRun, path: str) -> str:
        """The address of a run's file."""
        return file_of_run(TrackingEnvironment().ui, run.id, path)

    def tag_dagster_run(self, tags: Mapping[str, str]) -> None:
        """Adds tags to the Dagster run, for filters in Dagster's UI."""
        self._instance.add_run_tags(self._dagster_run.run_id, dict(tags))

    def find_run(self, dagster_run_id: str) -> str | None:
        """The id of a Dagster run's MLflow run; None if there is none."""
        found = self._search({DAGSTER_RUN: dagster_run_id})
        return found[0] if found else None

    def _search(self, tags: Mapping[str, str]) -> list[str]:
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        return [str(run.info.run_id) for run in self.client.search_runs([self._experiment_id()], wanted)]

    def _begin(self) -> TrackedRun:
        self._end_killed_runs()
        tags = {DAGSTER_RUN: self._dagster_run.run_id, **self._identity, "profile": NAME}
        tags |= origin(self._dagster_run, home=workspace().settings.home)
        name = run_name(NAME, self._dagster_run)
        run = TrackedRun(
            self.client, self.client.create_run(self._experiment_id(), tags=tags, run_name=name).info.run_id
        )
        run.log_page(settings_file(workspace().profile), "profile.yaml")
        run.log_parameters(parameters(workspace().profile, self._dagster_run))
        return run

    def _resume(self, run_id: str) -> TrackedRun:
        self.client.update_run(run_id, status="RUNNING")
        run = TrackedRun(self.client, run_id)
        run.log_tags({DAGSTER_RUN: self._dagster_run.run_id})
        if not self.client.get_run(run_id).data.params:  # the connection was lost after the run was created
            run.log_parameters(parameters(workspace().profile, self._dagster_run))
        return run

    def _begin_child(self, parent: TrackedRun, part: str) -> TrackedRun:
        tags = {PARENT: parent.id, PART: part, "profile": NAME}
        tags |= origin(self._dagster_run, home=workspace().settings.home)
        name = f"{NAME}, {part}"
        run = TrackedRun(
            self.client, self.client.create_run(self._experiment_id(), tags=tags, run_name=name).info.run_id
        )
        run.log_parameters(parameters(workspace().profile, self._dagster_run))
        return run

    def _end_killed_runs(self) -> None:
        """Ends the MLflow runs of killed Dagster runs, which would otherwise stay in the state RUNNING."""
        for run in self.client.search_runs([self._experiment_id()], "attributes.status = 'RUNNING'"):
            parent = run.data.tags.get(PARENT)
            tags = self.client.get_run(parent).data.tags if parent else run.data.tags
            dagster_run = self._instance.get_run_by_id(tags.get(DAGSTER_RUN, ""))
            if dagster_run is not None and dagster_run.is_finished:
                self.client.set_terminated(run.info.run_id, status="KILLED")

    def _experiment_id(self) -> str:
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return str(experiment.experiment_id)
        return self.client.create_experiment(
            EXPERIMENT,
            artifact_location=tracking_store(workspace().settings.home).artifact_location,
        )

    def _watch_system(self, run_id: str) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        monitor = SystemMetricsMonitor(run_id, tracking_uri=self.tracking_uri, resume_logging=True)
        monitor.start()
        return monitor
