"""What happens by itself once switched on in the UI: rebuilding what new data changes, and a weekly retraining."""

import json
from collections.abc import Iterable, Sequence

import dagster as dg

from dualgeo_core.workspace import GALLERY
from dualgeo_dagster.photo_versions import DvcBusyError, recorded_versions
from dualgeo_dagster.workspace import ALL_BENCHMARKS, BENCHMARKS, JOB, workspace

# A dependency counts as changed by its data version, so that what was made again to the same result asks for nothing.
REBUILD = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    .since(dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated())
    .with_label("a dependency's data version changed")
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
    & ~dg.AutomationCondition.in_progress()
)
# What is rebuilt farther up will arrive through the direct dependencies; until then they are of earlier data.
BUSY = dg.AutomationCondition.in_progress() | dg.AutomationCondition.data_version_changed()
LOOK_SECONDS = 300
REBUILD_AT_FIRST = workspace().profile.automation.rebuild


def rebuilding(assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The same assets, each rebuilt once all it depends on, near and far, is made of the newest data."""
    parents = {spec.key: {dep.asset_key for dep in spec.deps} for asset in assets for spec in asset.specs}

    def ancestors(key: dg.AssetKey) -> set[dg.AssetKey]:
        near = parents.get(key, set())
        return near.union(*map(ancestors, near))

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition: dg.AutomationCondition = REBUILD
        for key in sorted(ancestors(spec.key) - parents[spec.key]):
            condition &= ~dg.AutomationCondition.asset_matches(key, BUSY)
        return spec.replace_attributes(automation_condition=condition)

    return [asset.map_asset_specs(with_condition) for asset in assets]


@dg.observable_source_asset(group_name="photos")
def gallery_files() -> dg.DataVersion:
    """What DVC says the gallery's set is made from."""
    return dg.DataVersion(files_versions([GALLERY])[GALLERY])


@dg.observable_source_asset(group_name="photos", partitions_def=BENCHMARKS)
def benchmark_files() -> dg.DataVersionsByPartition:
    """What DVC says each benchmark's set is made from."""
    return dg.DataVersionsByPartition(files_versions(workspace().profile.photos.benchmarks))


def files_versions(photos_names: Iterable[str], wait: bool = True) -> dict[str, str]:
    """The versions of `gallery_files` and `benchmark_files`, by `gallery` and benchmark; as `recorded_versions`."""
    sets = {name: workspace().source(name).photo_set for name in photos_names}
    versions = recorded_versions(sets.values(), home=workspace().settings.home, wait=wait)
    return {name: versions[photo_set] for name, photo_set in sets.items()}


def observation(photos_name: str, version: str) -> dg.AssetObservation:
    """That the files of `gallery` or of a benchmark have this version."""
    asset, partition = ("gallery_files", None) if photos_name == GALLERY else ("benchmark_files", photos_name)
    return dg.AssetObservation(asset, partition=partition, tags={"dagster/data_version": version})


@dg.sensor(
    minimum_interval_seconds=LOOK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING if REBUILD_AT_FIRST else dg.DefaultSensorStatus.STOPPED,
    description="Looks every five minutes at what DVC says each photo set is made from, and notes what is new.",
)
def photo_set_versions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    # It runs nothing: looking by runs would fill the list of runs within days.
    seen = json.loads(context.cursor or "{}")
    try:
        now = files_versions([GALLERY, *workspace().profile.photos.benchmarks], wait=False)
    except DvcBusyError:
        return dg.SkipReason("DVC is at work: looked at again in five minutes")
    changed = [observation(name, version) for name, version in now.items() if seen.get(name) != version]
    nothing_new = None if changed else "no photo set has changed"
    return dg.SensorResult(asset_events=changed, cursor=json.dumps(now), skip_reason=nothing_new)


rebuild_what_changed = dg.AutomationConditionSensorDefinition(
    "rebuild_what_changed",
    target=dg.AssetSelection.all(include_sources=True),
    default_status=photo_set_versions.default_status,
    description="Makes anew what depends on a photo set of which `photo_set_versions` noted a new version.",
)

everything = dg.define_asset_job(
    JOB, selection="*", description="The whole graph, from photos to the model that serves, as one run."
)


@dg.schedule(
    job=everything,
    cron_schedule=workspace().profile.automation.retraining_cron,
    default_status=dg.DefaultScheduleStatus.RUNNING
    if workspace().profile.automation.weekly_retraining
    else dg.DefaultScheduleStatus.STOPPED,
    description="Makes everything again, with a model trained from new weights, which challenges the champion.",
)
def weekly_retraining(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    # The date is the seed: a tick that is tried again goes on with the same model.
    seed = int(context.scheduled_execution_time.strftime("%Y%m%d"))
    return dg.RunRequest(tags=ALL_BENCHMARKS, run_config={"ops": {"models": {"config": {"seed": seed}}}})
