"""From candidates to answers: clusters, what a large multimodal model says, and the posterior's predictions."""

import dagster as dg

from dualgeo_dagster.defs.retrieval import candidates, gallery_index
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import ACCELERATOR, BENCHMARKS, ONE_RUN, workspace
from dualgeo_dagster.reporting.results import Facts, progress_log, result, results_by_benchmark
from dualgeo_dagster.retries import retried


@dg.asset(group_name="refinement", kinds={"scipy"}, code_version="1", pool=ACCELERATOR, deps=[gallery_index])
@retried
def refiner(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The posterior's few parameters and its calibrated radii, fitted on photographers held out of training."""
    from dualgeo_core.pipeline.stage2 import make_refiner

    return result(make_refiner(workspace(), progress=progress_log(context)), tracking)


@dg.asset(group_name="refinement", kinds={"torch", "faiss"}, code_version="1", deps=[gallery_index, refiner])
@retried
def locator(tracking: Tracking) -> dg.MaterializeResult:
    """All it takes to locate photos, in one folder: what `dualgeo locate` uses."""
    from dualgeo_core.pipeline.stage2 import make_locator

    return result(make_locator(workspace()), tracking)


@dg.asset(
    group_name="refinement",
    kinds={"hdbscan"},
    code_version="1",
    deps=[candidates],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def clusters(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """HDBSCAN clusters of each query's candidates on the sphere, with radius, mass and place name."""
    from dualgeo_core.pipeline.stage2 import make_clusters

    return results_by_benchmark(context, tracking, lambda name: make_clusters(workspace(), name), table="clusters")


@dg.asset(
    group_name="refinement",
    kinds={"litellm"},
    code_version="1",
    deps=[candidates, clusters],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def lmm_answers(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """What a large multimodal model answers when shown photo and clusters; no rows while the profile names no model."""
    from dualgeo_core.pipeline.stage2 import make_lmm_answers

    def make(benchmark: str) -> Facts:
        facts = make_lmm_answers(workspace(), benchmark, progress=progress_log(context))
        counts = {key: value for key, value in facts.items() if isinstance(value, int | float)}
        tracking.benchmark_run(benchmark).log_metrics(
            {f"lmm_{key.replace(' ', '_')}": value for key, value in counts.items()}
        )
        return facts

    return results_by_benchmark(context, tracking, make, table="lmm_answers")


@dg.asset(
    group_name="refinement",
    kinds={"pandas", "parquet"},
    code_version="1",
    deps=[candidates, clusters, lmm_answers, refiner],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def predictions(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Where each query was taken, by every method that is compared, with calibrated radii or a status."""
    from dualgeo_core.pipeline.stage2 import make_predictions

    progress = progress_log(context)
    return results_by_benchmark(
        context,
        tracking,
        lambda name: make_predictions(workspace(), name, progress=progress),
        table="predictions",
    )
