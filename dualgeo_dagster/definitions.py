"""The assets, checks, job, schedule and sensors of one profile, under asset keys that begin with its name."""

import dagster as dg

from dualgeo_dagster.defs import (
    benchmarks,
    checks,
    conditions,
    observed,
    photos,
    promotion,
    refinement,
    retrieval,
    schedules,
    training,
    views,
)
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import NAME, orchestration
from dualgeo_dagster.settings import keep_libraries_quiet

keep_libraries_quiet()
MODULES = [photos, views, training, retrieval, refinement, benchmarks, promotion]
assets = [
    asset.map_asset_specs(
        lambda spec: spec.replace_attributes(owners=orchestration().owners, tags={**spec.tags, "profile": NAME})
    )
    for asset in dg.load_assets_from_modules(MODULES, key_prefix=NAME)
    if isinstance(asset, dg.AssetsDefinition)  # these modules also import the observed sources
]
defs = dg.Definitions(
    assets=[observed.gallery_files, observed.benchmark_files, *conditions.with_rebuild_conditions(assets)],
    asset_checks=dg.load_asset_checks_from_modules([checks], asset_key_prefix=NAME),
    jobs=[schedules.everything],
    schedules=[schedules.weekly_retraining],
    sensors=[observed.photo_set_versions, conditions.rebuild_what_changed],
    resources={"tracking": Tracking()},
    # One process loads the libraries once. Training has its own process, and the other steps share the same cores.
    executor=dg.in_process_executor,
)
