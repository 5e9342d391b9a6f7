"""The files of each photo set as DVC records them: observed, never made here."""

import json
from collections.abc import Iterable

import dagster as dg

from dualgeo_core.pipeline.workspace import GALLERY
from dualgeo_dagster.photo_versions import DvcBusyError, recorded_versions
from dualgeo_dagster.profile import BENCHMARKS, NAME, asset_key, orchestration, workspace

LOOK_SECONDS = 300
REBUILD_BY_DEFAULT = (
    dg.DefaultSensorStatus.RUNNING if orchestration().automation.rebuild else dg.DefaultSensorStatus.STOPPED
)


@dg.observable_source_asset(group_name="photos", key_prefix=NAME)
def gallery_files() -> dg.DataVersion:
    """The version of the gallery's set in DVC's record. A new one makes everything below stale."""
    return dg.DataVersion(files_versions([GALLERY])[GALLERY])


@dg.observable_source_asset(group_name="photos", key_prefix=NAME, partitions_def=BENCHMARKS)
def benchmark_files() -> dg.DataVersionsByPartition:
    """The version of each benchmark's set in DVC's record. A new one makes that benchmark's results stale."""
    return dg.DataVersionsByPartition(files_versions(workspace().profile.photos.benchmarks))


def files_versions(photos_names: Iterable[str], *, wait: bool = True) -> dict[str, str]:
    """The versions of `gallery_files` and `benchmark_files`, by `gallery` and benchmark; as `recorded_versions`."""
    sets = {name: workspace().source(name).photo_set for name in photos_names}
    versions = recorded_versions(sets.values(), home=workspace().settings.home, wait=wait)
    return {name: versions[photo_set] for name, photo_set in sets.items()}


def observation(photos_name: str, version: str) -> dg.AssetObservation:
    """The event that the files of `gallery` or of a benchmark have this version."""
    asset, partition = ("gallery_files", None) if photos_name == GALLERY else ("benchmark_files", photos_name)
    return dg.AssetObservation(asset_key(asset), partition=partition, tags={"dagster/data_version": version})


@dg.sensor(
    name=f"{NAME}_photo_set_versions",
    minimum_interval_seconds=LOOK_SECONDS,
    default_status=REBUILD_BY_DEFAULT,
    description="Reads DVC's record of every photo set each five minutes and reports new versions. Launches no run.",
)
def photo_set_versions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    # Observing by runs would fill the list of runs within days.
    seen = json.loads(context.cursor or "{}")
    try:
        now = files_versions([GALLERY, *workspace().profile.photos.benchmarks], wait=False)
    except DvcBusyError:
        return dg.SkipReason("another DVC command is running; the next look is in five minutes")
    changed = [observation(name, version) for name, version in now.items() if seen.get(name) != version]
    nothing_new = None if changed else "no photo set has changed"
    return dg.SensorResult(asset_events=changed, cursor=json.dumps(now), skip_reason=nothing_new)
