"""Rebuild conditions: everything downstream of changed data, in order, and nothing if data are unchanged."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from dualgeo_dagster.definitions import defs
from dualgeo_dagster.profile import JOB, NAME, asset_key, workspace

VERSION = "dagster/data_version"
BENCHMARKS = list(workspace().profile.photos.benchmarks)


class Deployment:
    """A Dagster instance in which every asset was materialized once, and Dagster's own evaluator."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance, self._cursor = instance, None
        graph = defs.resolve_asset_graph()
        self.observe("gallery_files", "1")
        for benchmark in BENCHMARKS:
            self.observe("benchmark_files", "1", benchmark)
        for key in graph.materializable_asset_keys:
            for partition in BENCHMARKS if graph.get(key).is_partitioned else [None]:
                self.make(key.path[-1], "1", partition)
        self.requested()

    def observe(self, asset: str, version: str, partition: str | None = None) -> None:
        event = dg.AssetObservation(asset_key(asset), partition=partition, tags={VERSION: version})
        self._instance.report_runless_asset_event(event)

    def make(self, asset: str, version: str, partition: str | None = None) -> None:
        event = dg.AssetMaterialization(asset_key(asset), partition=partition, tags={VERSION: version})
        self._instance.report_runless_asset_event(event)

    def requested(self) -> set[str]:
        """The assets that the evaluator requests now."""
        result = dg.evaluate_automation_conditions(defs=defs, instance=self._instance, cursor=self._cursor)
        self._cursor = result.cursor
        return {found.key.path[-1] for found in result.results if found.true_subset.size}


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Deployment(instance)


def test_the_same_data_asks_for_nothing(deployment: Deployment) -> None:
    deployment.observe("gallery_files", "1")
    assert deployment.requested() == set()
    deployment.make("gallery_photos", "1")  # materialized again, with the same data version
    assert deployment.requested() == set()


def test_new_gallery_data_rebuilds_what_depends_on_it_in_order(deployment: Deployment) -> None:
    deployment.observe("gallery_files", "2")
    assert deployment.requested() == {"gallery_photos"}
    deployment.make("gallery_photos", "2")
    assert deployment.requested() == {"segmenter", "gallery_features"}, "masks wait for the segmenter"
    deployment.make("segmenter", "1")
    deployment.make("gallery_features", "2")
    assert deployment.requested() == {"gallery_masks"}, "models wait for the masks"
    deployment.make("gallery_masks", "2")
    assert deployment.requested() == {"relit_views"}, "regions of light are those of the masks"
    deployment.make("relit_views", "2")
    assert deployment.requested() == {"models"}, "embeddings wait for the models"
    deployment.make("models", "2")
    assert deployment.requested() == {"gallery_embeddings"}


def test_nothing_is_made_of_half_new_data(deployment: Deployment) -> None:
    deployment.observe("gallery_files", "2")
    assert deployment.requested() == {"gallery_photos"}
    deployment.make("gallery_photos", "2")
    deployment.requested()
    deployment.make("segmenter", "2")
    deployment.make("gallery_features", "2")
    assert deployment.requested() == {"gallery_masks", "benchmark_masks"}, "other classes, other masks"
    for benchmark in BENCHMARKS:
        deployment.make("benchmark_masks", "2", benchmark)
    deployment.make("gallery_masks", "2")
    in_order = ["relit_views", "models", "gallery_embeddings", "gallery_index"]
    for asset in in_order:
        assert deployment.requested() == {asset}, "candidates wait for the index, though their masks are there"
        deployment.make(asset, "2")
    assert deployment.requested() == {"refiner", "candidates"}
    deployment.make("refiner", "2")
    for benchmark in BENCHMARKS:
        deployment.make("candidates", "2", benchmark)
    assert deployment.requested() == {"locator", "clusters"}
    deployment.make("locator", "2")
    for benchmark in BENCHMARKS:
        deployment.make("clusters", "2", benchmark)
    assert deployment.requested() == {"lmm_answers"}, "the challenger waits for its scores"


def test_looking_notes_each_version_once_and_runs_nothing() -> None:
    sensor = defs.resolve_sensor_def(f"{NAME}_photo_set_versions")
    with dg.DagsterInstance.ephemeral() as instance:
        first = sensor.evaluate_tick(dg.build_sensor_context(instance))
        again = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=first.cursor))
        seen = {**json.loads(first.cursor), BENCHMARKS[0]: "of another hash"}
        changed = sensor.evaluate_tick(dg.build_sensor_context(instance, cursor=json.dumps(seen)))
    keys = [(event.asset_key, event.partition) for event in first.asset_events]
    assert keys == [
        (asset_key("gallery_files"), None),
        *((asset_key("benchmark_files"), benchmark) for benchmark in BENCHMARKS),
    ]
    assert again.asset_events == []
    assert [event.partition for event in changed.asset_events] == [BENCHMARKS[0]]
    assert [tick.run_requests for tick in (first, again, changed)] == [[], [], []]


def test_new_queries_rebuild_their_own_branch_alone(deployment: Deployment) -> None:
    deployment.observe("benchmark_files", "2", BENCHMARKS[0])
    assert deployment.requested() == {"benchmark_photos"}
    deployment.make("benchmark_photos", "2", BENCHMARKS[0])
    assert deployment.requested() == {"benchmark_masks", "benchmark_features"}


def test_nothing_runs_before_it_is_switched_on() -> None:
    assert defs.resolve_schedule_def(f"{NAME}_weekly_retraining").default_status == dg.DefaultScheduleStatus.STOPPED
    for sensor in ("photo_set_versions", "rebuild_what_changed"):
        assert defs.resolve_sensor_def(f"{NAME}_{sensor}").default_status == dg.DefaultSensorStatus.STOPPED


def test_every_week_trains_another_model_and_a_tick_tried_again_the_same() -> None:
    first, again, later = (requested_at(day) for day in (23, 23, 30))
    assert first.run_config == again.run_config
    assert first.run_config["ops"]["models"]["config"]["seed"] != later.run_config["ops"]["models"]["config"]["seed"]
    assert first.tags["dagster/asset_partition_range_end"] == BENCHMARKS[-1], "all benchmarks in one run"
    job = defs.resolve_job_def(JOB)
    assert dg.validate_run_config(job, first.run_config), "the launchpad takes it"


def test_launchpad_begins_with_the_profile_and_asks_for_nothing_else() -> None:
    filled = dg.validate_run_config(defs.resolve_job_def(JOB), {})
    profile = workspace().profile.training
    given = filled["ops"]["models"]["config"]
    assert given == {name: getattr(profile, name) for name in ("seed", "epochs", "batch_size", "learning_rate")}
    assert not any(resource.get("config") for resource in filled["resources"].values())


def test_selection_strings_parse() -> None:
    # dvc's hydra and Dagster's parser need different antlr runtimes; pyproject.toml pins versions that work for both.
    selection = dg.AssetSelection.from_string(f'+key:"{NAME}/scores" and group:"retrieval"')
    found = selection.resolve(defs.resolve_asset_graph())
    assert found == {asset_key(asset) for asset in ("candidates", "gallery_embeddings", "gallery_index")}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("epochs", 0), ("epochs", -1), ("batch_size", -5), ("batch_size", 1), ("seed", -1)),
        *(("learning_rate", 0.0), ("learning_rate", float("inf")), ("learning_rate", float("nan"))),
    ],
)
def test_launchpad_refuses_what_training_would_refuse_before_the_run_is_queued(setting: str, value: float) -> None:
    config = {"ops": {"models": {"config": {setting: value}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match=f"{setting}: Input should be"):
        dg.validate_run_config(defs.resolve_job_def(JOB), config)


def requested_at(day: int) -> dg.RunRequest:
    schedule = defs.resolve_schedule_def(f"{NAME}_weekly_retraining")
    with dg.DagsterInstance.ephemeral() as instance:
        when = datetime(2026, 11, day, 3, tzinfo=UTC)
        return schedule.evaluate_tick(dg.build_schedule_context(instance, when)).run_requests[0]
