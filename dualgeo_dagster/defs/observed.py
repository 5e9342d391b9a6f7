"""The files of each photo set, observed through DVC. Dagster does not write them."""

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


# Dagster does not show the docstring of a source asset.
@dg.observable_source_asset(
    group_name="photos",
    key_prefix=NAME,
    description="The DVC version of the gallery's photo set.\n\nIt lets Dagster see when the gallery has changed "
    "outside Dagster. Observe it after an import; a new version marks everything downstream as stale.",
)
def gallery_files() -> dg.DataVersion:
    return dg.DataVersion(files_versions([GALLERY])[GALLERY])


@dg.observable_source_asset(
    group_name="photos",
    key_prefix=NAME,
    partitions_def=BENCHMARKS,
    description="The DVC version of each benchmark's photo set.\n\nIt lets Dagster see when query photos have changed "
    "outside Dagster. Observe it after an import; a new version marks the results on that benchmark as stale.",
)
def benchmark_files() -> dg.DataVersionsByPartition:
    return dg.DataVersionsByPartition(files_versions(workspace().profile.photos.benchmarks))


def files_versions(photos_names: Iterable[str], *, wait: bool = True) -> dict[str, str]:
    """The data versions of `gallery_files` and `benchmark_files`, by name; see `recorded_versions`."""
    sets = {name: workspace().source(name).photo_set for name in photos_names}
    versions = recorded_versions(sets.values(), home=workspace().settings.home, wait=wait)
    return {name: versions[photo_set] for name, photo_set in sets.items()}


def observation(photos_name: str, version: str) -> dg.AssetObservation:
    """The Dagster event that reports this version for the files of `gallery` or of a benchmark."""
    asset, partition = ("gallery_files", None) if photos_name == GALLERY else ("benchmark_files", photos_name)
    return dg.AssetObservation(asset_key(asset), partition=partition, tags={"dagster/data_version": version})


@dg.sensor(
    name=f"{NAME}_photo_set_versions",
    minimum_interval_seconds=LOOK_SECONDS,
    default_status=REBUILD_BY_DEFAULT,
    description="Checks the DVC version of every photo set every five minutes and reports changes. Launches no run.",
)
def photo_set_versions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    # Observation runs every five minutes would fill the list of runs.
    seen = json.loads(context.cursor or "{}")
    try:
        now = files_versions([GALLERY, *workspace().profile.photos.benchmarks], wait=False)
    except DvcBusyError:
        return dg.SkipReason("another DVC command is running; the next check is in five minutes")
    changed = [observation(name, version) for name, version in now.items() if seen.get(name) != version]
    nothing_new = None if changed else "no photo set has changed"
    return dg.SensorResult(asset_events=changed, cursor=json.dumps(now), skip_reason=nothing_new)
