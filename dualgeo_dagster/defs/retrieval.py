"""The gallery as searchable vectors, and what each query finds in it."""

from collections.abc import Collection

import dagster as dg

from dualgeo_core.base.files import fingerprint
from dualgeo_dagster.defs.training import models
from dualgeo_dagster.defs.views import benchmark_features, benchmark_masks, gallery_features, gallery_masks
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import ACCELERATOR, BENCHMARKS, ONE_RUN, workspace
from dualgeo_dagster.reporting.results import Facts, progress_log, result, results_by_benchmark
from dualgeo_dagster.retries import retried


@dg.asset(
    group_name="retrieval",
    kinds={"torch", "safetensors"},
    code_version="1",
    pool=ACCELERATOR,
    deps=[gallery_masks, gallery_features, models],
)
@retried
def gallery_embeddings(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The gallery's retrieval vectors, in every representation that is compared."""
    from dualgeo_core.pipeline.stage1 import make_embeddings

    made = {
        representation: make_embeddings(workspace(), representation, progress=progress_log(context))
        for representation in workspace().profile.model.variants
    }
    return result(
        {
            **_totals(made.values()),
            "representations": list(made),
            "fingerprint": fingerprint({name: facts["fingerprint"] for name, facts in made.items()}),
        },
        tracking,
    )


@dg.asset(group_name="retrieval", kinds={"faiss"}, code_version="1", deps=[gallery_embeddings])
@retried
def gallery_index(tracking: Tracking) -> dg.MaterializeResult:
    """A FAISS index per representation, refused by whoever finds it made from something else."""
    from dualgeo_core.pipeline.stage1 import make_index

    made = {name: make_index(workspace(), name) for name in workspace().profile.model.variants}
    return result(
        {
            **_totals(made.values()),
            "specification": workspace().profile.retrieval.index,
            "fingerprint": fingerprint({name: facts["fingerprint"] for name, facts in made.items()}),
        },
        tracking,
    )


@dg.asset(
    group_name="retrieval",
    kinds={"faiss", "parquet"},
    code_version="1",
    pool=ACCELERATOR,
    deps=[gallery_index, benchmark_masks, benchmark_features],
    partitions_def=BENCHMARKS,
    backfill_policy=ONE_RUN,
)
@retried
def candidates(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """The gallery photos most and least similar to each query; its own photographer and near-duplicates left out."""
    from dualgeo_core.pipeline.stage1 import make_candidates

    return results_by_benchmark(context, tracking, lambda name: make_candidates(workspace(), name), table="candidates")


def _totals(made: Collection[Facts]) -> Facts:
    """Rows over all representations, and how many of them are new."""
    return {count: sum(facts[count] for facts in made) for count in ("rows", "computed", "taken_over")}
