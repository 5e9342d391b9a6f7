"""Retrieval: embeddings and index of the gallery, and the candidates of each query."""

from collections.abc import Collection

import dagster as dg

from dualgeo_core.base.files import fingerprint
from dualgeo_dagster.defs.training import models
from dualgeo_dagster.defs.views import benchmark_features, benchmark_masks, gallery_features, gallery_masks
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.profile import ACCELERATOR, BENCHMARKS, ONE_RUN, SHARDS, workspace
from dualgeo_dagster.reporting.results import Metadata, progress_log, result, results_by_benchmark
from dualgeo_dagster.retries import retried


@dg.asset(
    group_name="retrieval",
    kinds={"torch", "safetensors"},
    code_version="1",
    pool=SHARDS,
    deps=[gallery_masks, gallery_features, models],
)
@retried
def gallery_embeddings(context: dg.AssetExecutionContext, tracking: Tracking) -> dg.MaterializeResult:
    """Retrieval vectors of the gallery photos in every compared representation.

    Queries are compared with these vectors instead of with photos. After new photos, `computed` in the metadata counts
    the new vectors and `taken_over` the reused ones.
    """
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


@dg.asset(group_name="retrieval", kinds={"faiss"}, code_version="2", deps=[gallery_embeddings], pool=ACCELERATOR)
@retried
def gallery_index(tracking: Tracking) -> dg.MaterializeResult:
    """FAISS index of the gallery in each representation.

    It makes search fast on large galleries. While the vectors fit into memory it is exact; a larger index is
    compressed, and its recall is measured. Set type and recall with `retrieval` in the profile. Later
    steps refuse an index that does not match the current embeddings.
    """
    from dualgeo_core.pipeline.stage1 import make_index

    made = {name: make_index(workspace(), name) for name in workspace().profile.model.variants}
    return result(
        {
            **_totals(made.values()),
            "specification": ", ".join(sorted({str(facts["specification"]) for facts in made.values()})),
            "recall_at_20": min(facts["recall_at_20"] for facts in made.values()),
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
    """The gallery photos most and least similar to each query, without its photographer and near-duplicates.

    All predictions are computed from these candidates. In its `table.parquet`, filter by `id` and sort by `rank` to
    see the evidence for one query.
    """
    from dualgeo_core.pipeline.stage1 import make_candidates

    return results_by_benchmark(context, tracking, lambda name: make_candidates(workspace(), name), table="candidates")


def _totals(made: Collection[Metadata]) -> Metadata:
    """Sums over all representations: rows, computed and reused."""
    return {count: sum(facts[count] for facts in made) for count in ("rows", "computed", "taken_over")}
