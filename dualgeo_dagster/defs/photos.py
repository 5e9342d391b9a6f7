"""Photo sets, built and versioned by DVC. Their data version is the DVC hash."""

import dagster as dg

from dualgeo_core.pipeline.workspace import GALLERY
from dualgeo_dagster.defs.observed import benchmark_files, files_versions, gallery_files, observation
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.photo_versions import build_photo_set
from dualgeo_dagster.profile import BENCHMARKS, ONE_RUN, workspace
from dualgeo_dagster.reporting.columns import COLUMN_SCHEMA, ROW_COUNT, column_schema
from dualgeo_dagster.reporting.plan import plan_facts
from dualgeo_dagster.reporting.results import Metadata, result, results_by_benchmark
from dualgeo_dagster.retries import retried


@dg.asset(group_name="photos", kinds={"dvc", "parquet"}, code_version="1", deps=[gallery_files])
@retried
def gallery_photos(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Geotagged photos to search and to train on.

    This step builds or pulls the gallery with DVC, so that every result is traceable to one version of the data. Check
    the numbers of photos, photographers and quarantined photos in the metadata.
    """
    return result(_photo_set(context, tracking, GALLERY, role="training"), tracking)


@dg.asset(
    group_name="photos",
    kinds={"dvc", "parquet"},
    code_version="1",
    deps=[benchmark_files],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def benchmark_photos(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Query photos with known positions, by other photographers than the gallery's.

    Their true positions are the reference for all scores. Select a partition to build one benchmark; the numbers of
    photos and photographers are in its metadata.
    """
    return results_by_benchmark(
        context, tracking, lambda benchmark: _photo_set(context, tracking, benchmark, role="evaluation")
    )


def _photo_set(context: dg.AssetExecutionContext, tracking: Tracking, photos_name: str, role: str) -> Metadata:
    name = workspace().source(photos_name).photo_set
    dvc_hash = build_photo_set(name, home=workspace().settings.home, say=context.log.info)
    # Reports the version now, so that the next change is detected even if the set was never observed before.
    context.log_event(observation(photos_name, files_versions([photos_name])[photos_name]))
    photos = workspace().photos(photos_name)
    runs = [tracking.run] if photos_name == GALLERY else [tracking.run, tracking.benchmark_run(photos_name)]
    for run in runs:
        run.log_photo_set(name, folder=photos.folder, dvc_hash=dvc_hash, context=role)
    tracking.tag_dagster_run({f"data.{name}": dvc_hash[:12]})
    frame = photos.frame
    if photos_name == GALLERY:
        workspace().profile.retrieval.require_enough_photos(len(frame))
    return {
        **(plan_facts(len(frame)) if photos_name == GALLERY else {}),
        "fingerprint": dvc_hash,
        ROW_COUNT: len(frame),
        COLUMN_SCHEMA: column_schema(min(photos.folder.glob("*.parquet"))),
        "photographers": int(frame["author"].nunique()),
        "quarantined": photos.quarantined,
        "folder": dg.MetadataValue.path(photos.folder),
    }
