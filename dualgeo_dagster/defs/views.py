"""The two views of each photo, made once: label maps of a segmenter, tokens of a frozen image encoder."""

import dagster as dg

from dualgeo_core.pipeline.workspace import GALLERY
from dualgeo_dagster.defs.photos import benchmark_photos, gallery_photos
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import ACCELERATOR, BENCHMARKS, ONE_RUN, workspace
from dualgeo_dagster.reporting.results import progress_log, result, results_by_benchmark
from dualgeo_dagster.retries import retried


@dg.asset(group_name="views", kinds={"transformers"}, code_version="1", pool=ACCELERATOR, deps=[gallery_photos])
@retried
def segmenter(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The model that labels pixels: a SegFormer checkpoint, or a codebook fitted on the gallery."""
    from dualgeo_core.pipeline.stage1 import make_segmenter

    return result(make_segmenter(workspace(), progress=progress_log(context)), tracking)


@dg.asset(
    group_name="views",
    kinds={"transformers", "parquet"},
    code_version="1",
    pool=ACCELERATOR,
    deps=[gallery_photos, segmenter],
)
@retried
def gallery_masks(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """A label map per gallery photo: one-channel PNG of class ids, in the photo's own crop."""
    from dualgeo_core.pipeline.stage1 import make_masks

    return result(make_masks(workspace(), GALLERY, progress=progress_log(context)), tracking)


@dg.asset(group_name="views", kinds={"torch", "safetensors"}, code_version="1", pool=ACCELERATOR, deps=[gallery_photos])
@retried
def gallery_features(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The frozen encoder's pooled vector and patch tokens per gallery photo, in half precision."""
    from dualgeo_core.pipeline.stage1 import make_features

    return result(make_features(workspace(), GALLERY, progress=progress_log(context)), tracking)


@dg.asset(
    group_name="views",
    kinds={"transformers", "parquet"},
    code_version="1",
    pool=ACCELERATOR,
    deps=[benchmark_photos, segmenter],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def benchmark_masks(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """A label map per query photo."""
    from dualgeo_core.pipeline.stage1 import make_masks

    progress = progress_log(context)
    return results_by_benchmark(context, tracking, lambda name: make_masks(workspace(), name, progress=progress))


@dg.asset(
    group_name="views",
    kinds={"torch", "safetensors"},
    code_version="1",
    pool=ACCELERATOR,
    deps=[benchmark_photos],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def benchmark_features(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The frozen encoder's pooled vector and patch tokens per query photo."""
    from dualgeo_core.pipeline.stage1 import make_features

    progress = progress_log(context)
    return results_by_benchmark(context, tracking, lambda name: make_features(workspace(), name, progress=progress))
