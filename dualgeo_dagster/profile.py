"""The profile of this process, and the names, partitions and pools derived from it."""

from functools import cache

import dagster as dg

from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings
from dualgeo_dagster.settings import OrchestrationSettings, orchestration_of


@cache
def workspace() -> Workspace:
    """The workspace of the profile named by DUALGEO_PROFILE."""
    return Workspace(load_settings())


@cache
def orchestration() -> OrchestrationSettings:
    """The profile's settings for Dagster and MLflow."""
    return orchestration_of(workspace().profile)


NAME = workspace().profile.name
JOB = f"{NAME}_everything"
BENCHMARKS = dg.StaticPartitionsDefinition(list(workspace().profile.photos.benchmarks))
ONE_RUN = dg.BackfillPolicy.single_run()
ACCELERATOR = "accelerator"  # the pool of steps that use the GPU, shared by all profiles
# On a cluster, each worker has its own device, and Ray knows which are free.
SHARDS = ACCELERATOR if workspace().profile.engine == "local" else None
# A job on a cluster stops an earlier one of the same models, so only one step of the profile may train.
TRAINING = ACCELERATOR if workspace().profile.training_nodes is None else f"{NAME}_training"
ALL_BENCHMARKS = {
    "dagster/asset_partition_range_start": BENCHMARKS.get_first_partition_key() or "",
    "dagster/asset_partition_range_end": BENCHMARKS.get_last_partition_key() or "",
}


def asset_key(asset: str) -> dg.AssetKey:
    """The key of an asset of this profile, for example `demo/models`."""
    return dg.AssetKey([NAME, asset])
