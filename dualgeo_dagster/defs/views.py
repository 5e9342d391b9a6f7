"""The two views of each photo, computed once: label map (segmenter) and tokens (frozen image encoder)."""

import dagster as dg

from dualgeo_core.pipeline.workspace import GALLERY
from dualgeo_dagster.defs.photos import benchmark_photos, gallery_photos
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import ACCELERATOR, BENCHMARKS, ONE_RUN, SHARDS, workspace
from dualgeo_dagster.reporting.results import progress_log, result, results_by_benchmark
from dualgeo_dagster.retries import retried


@dg.asset(group_name="views", kinds={"transformers"}, code_version="1", pool=ACCELERATOR, deps=[gallery_photos])
@retried
def segmenter(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The semantic segmentation model: a SegFormer checkpoint, or a codebook fitted on the gallery.

    Its class ids must have the same meaning in gallery and queries, so one model is fixed here for both. Kind and
    number of classes are in the metadata; choose the model with `segmenter` in the profile.
    """
    from dualgeo_core.pipeline.stage1 import make_segmenter

    return result(make_segmenter(workspace(), progress=progress_log(context)), tracking)


@dg.asset(
    group_name="views",
    kinds={"transformers", "parquet"},
    code_version="1",
    pool=SHARDS,
    deps=[gallery_photos, segmenter],
)
@retried
def gallery_masks(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Label map of each gallery photo: one-channel PNG of class ids, in the photo's square crop.

    Label maps show the layout of a scene with little influence of light and weather. A synthetic gallery has
    `mean_iou` in the metadata: the agreement with the true label maps, 0 to 1.
    """
    from dualgeo_core.pipeline.stage1 import make_masks

    return result(make_masks(workspace(), GALLERY, progress=progress_log(context)), tracking)


@dg.asset(group_name="views", kinds={"torch", "safetensors"}, code_version="1", pool=SHARDS, deps=[gallery_photos])
@retried
def gallery_features(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Pooled vector and patch tokens of each gallery photo from the frozen encoder, in half precision.

    Storing them once makes training fast, because the encoder does not run in every epoch. The metadata count
    the computed and the reused (`taken_over`) photos.
    """
    from dualgeo_core.pipeline.stage1 import make_features

    return result(make_features(workspace(), GALLERY, progress=progress_log(context)), tracking)


@dg.asset(
    group_name="views",
    kinds={"torch", "safetensors"},
    code_version="1",
    pool=SHARDS,
    deps=[gallery_photos, gallery_masks, gallery_features],
)
@retried
def relit_views(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Both views of the gallery photos in other light: darkness, veils, other colours. Empty without relighting.

    A gallery shows most places in one light. The retrieval vector learns from relit photos what light changes in a
    view, and training can read them too. Kinds and strengths of light are set with `relighting` in the profile.
    """
    from dualgeo_core.pipeline.stage1 import make_relit_views

    return result(make_relit_views(workspace(), progress=progress_log(context)), tracking)


@dg.asset(
    group_name="views",
    kinds={"transformers", "parquet"},
    code_version="1",
    pool=SHARDS,
    deps=[benchmark_photos, segmenter],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def benchmark_masks(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Label map of each query photo, from the same segmenter as the gallery's.

    Queries need the same two views as the gallery. Select a partition to compute one benchmark.
    """
    from dualgeo_core.pipeline.stage1 import make_masks

    progress = progress_log(context)
    return results_by_benchmark(context, tracking, lambda name: make_masks(workspace(), name, progress=progress))


@dg.asset(
    group_name="views",
    kinds={"torch", "safetensors"},
    code_version="1",
    pool=SHARDS,
    deps=[benchmark_photos],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def benchmark_features(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Pooled vector and patch tokens of each query photo, from the same encoder as the gallery's.

    Queries need the same two views as the gallery. Select a partition to compute one benchmark.
    """
    from dualgeo_core.pipeline.stage1 import make_features

    progress = progress_log(context)
    return results_by_benchmark(context, tracking, lambda name: make_features(workspace(), name, progress=progress))
