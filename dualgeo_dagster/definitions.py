"""DualGeo as Dagster sees it: the assets of one profile, their checks, the job that makes them all, and MLflow."""

import dagster as dg

from dualgeo_core.settings import keep_libraries_quiet
from dualgeo_dagster.console import console
from dualgeo_dagster.defs import (
    automation,
    benchmarks,
    checks,
    photos,
    promotion,
    refinement,
    retrieval,
    training,
    views,
)
from dualgeo_dagster.defs.resources import Tracking
from dualgeo_dagster.workspace import workspace

keep_libraries_quiet()
STOP_SECONDS = 240  # how long training may take to end its step and write a checkpoint

assets = [
    asset.map_asset_specs(lambda spec: spec.replace_attributes(owners=workspace().profile.owners))
    for asset in dg.load_assets_from_modules([photos, views, training, retrieval, refinement, benchmarks, promotion])
    if isinstance(asset, dg.AssetsDefinition)  # those that are only observed are imported there, too
]
defs = dg.Definitions(
    assets=[automation.gallery_files, automation.benchmark_files, *automation.rebuilding(assets)],
    asset_checks=dg.load_asset_checks_from_modules([checks]),
    jobs=[automation.everything],
    schedules=[automation.weekly_retraining],
    sensors=[automation.photo_set_versions, automation.rebuild_what_changed],
    resources={
        "tracking": Tracking(),
        "training_process": dg.PipesSubprocessClient(termination_timeout_seconds=STOP_SECONDS),
    },
    # One process holds the libraries once; training has its own process, and steps mostly wait for the same cores.
    executor=dg.in_process_executor,
    loggers={"console": console},
)
