"""Stage 2, from candidates to predictions: clusters, answers of a multimodal model, posterior."""

from collections.abc import Sequence

import dagster as dg

from dualgeo_dagster.defs.retrieval import candidates, gallery_index
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import ACCELERATOR, BENCHMARKS, ONE_RUN, workspace
from dualgeo_dagster.reporting.results import Metadata, progress_log, result, results_by_benchmark
from dualgeo_dagster.retries import retried


@dg.asset(group_name="refinement", kinds={"scipy"}, code_version="1", pool=ACCELERATOR, deps=[gallery_index])
@retried
def refiner(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The parameters of the posterior and the calibration of its radii, fitted on held-out photographers.

    Calibration makes the 50 % and 90 % radii hold for photos outside the training data. Check `fitted_on` in the
    metadata: it names the shipped refiner if the gallery has too few held-out photos.
    """
    from dualgeo_core.pipeline.stage2 import make_refiner

    return result(make_refiner(workspace(), progress=progress_log(context)), tracking)


@dg.asset(group_name="refinement", kinds={"torch", "faiss"}, code_version="1", deps=[gallery_index, refiner])
@retried
def locator(tracking: Tracking) -> dg.MaterializeResult:
    """One folder with everything needed to locate photos: models, index, gallery positions, refiner.

    It is the unit that is registered in MLflow and served. Run `dualgeo locate PHOTO` to use it, or copy it to another
    machine; its size (megabytes) is in the metadata.
    """
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
    """HDBSCAN clusters of each query's candidates on the sphere, with radius (km), mass and place name.

    They summarise where the candidates agree, and are shown to the multimodal model. Look here first if the prediction
    for a query is implausible.
    """
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
    """Answers of a large multimodal model that is shown each photo and its clusters.

    They add what can be read in the photo, such as signs and language. The table is empty if the profile names no
    model; otherwise check cost and failures in the metadata.
    """
    from dualgeo_core.pipeline.stage2 import make_lmm_answers

    found: list[Metadata] = []

    def make(benchmark: str) -> Metadata:
        facts = make_lmm_answers(workspace(), benchmark, progress=progress_log(context))
        counts = {key: value for key, value in facts.items() if isinstance(value, int | float)}
        tracking.benchmark_run(benchmark).log_metrics(
            {f"lmm_{key.replace(' ', '_')}": value for key, value in counts.items()}
        )
        found.append(facts)
        return facts

    made = results_by_benchmark(context, tracking, make, table="lmm_answers")
    tracking.run.log_metrics(cost_metric(found))
    return made


def cost_metric(found: Sequence[Metadata]) -> dict[str, float]:
    """The cost of all questions of a run as a metric; empty if none was asked or the price of one is unknown."""
    asked = [facts for facts in found if facts.get("calls")]
    if not asked or any(facts["unpriced"] for facts in asked):
        return {}
    return {"lmm/cost usd": round(sum(facts["cost_usd"] for facts in asked), 4)}


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
    """Predicted position of each query by every compared method, with calibrated radii (km) or a status.

    These are the answers that the next step scores. The metadata count the queries per status of the main method; in
    `table.parquet`, the column `method` names the method.
    """
    from dualgeo_core.pipeline.stage2 import make_predictions

    progress = progress_log(context)
    return results_by_benchmark(
        context,
        tracking,
        lambda name: make_predictions(workspace(), name, progress=progress),
        table="predictions",
    )
