"""The workspace of the profile this code location was loaded for, and its benchmarks as Dagster partitions."""

from functools import cache

import dagster as dg

from dualgeo_core.settings import load_settings
from dualgeo_core.workspace import Workspace


@cache
def workspace() -> Workspace:
    return Workspace(load_settings())


BENCHMARKS = dg.StaticPartitionsDefinition(list(workspace().profile.photos.benchmarks))
JOB = "everything"
ONE_RUN = dg.BackfillPolicy.single_run()
ACCELERATOR = "accelerator"  # the pool of steps that would fight for one GPU
ALL_BENCHMARKS = {
    "dagster/asset_partition_range_start": BENCHMARKS.get_first_partition_key() or "",
    "dagster/asset_partition_range_end": BENCHMARKS.get_last_partition_key() or "",
}
