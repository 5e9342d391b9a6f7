"""The Great Expectations suites as asset checks. A failed check stops the run before later steps use bad data."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from dualgeo_core.pipeline.workspace import GALLERY
from dualgeo_dagster.defs.photos import benchmark_photos, gallery_photos
from dualgeo_dagster.defs.refinement import locator, predictions
from dualgeo_dagster.defs.retrieval import gallery_embeddings, gallery_index
from dualgeo_dagster.defs.views import benchmark_masks, gallery_masks
from dualgeo_dagster.profile import NAME, asset_key, workspace

if TYPE_CHECKING:
    from dualgeo_core.base.artifacts import Artifact
    from dualgeo_core.pipeline.artifacts import Artifacts
    from dualgeo_dagster.reporting.expectations import Verdict

INTACT = dg.AssetCheckKey(asset_key("locator"), "artifacts_are_intact")


@dg.asset_check(asset=gallery_photos, blocking=True, name="ids_and_positions")
def gallery_photos_check() -> dg.AssetCheckResult:
    """Every gallery photo has a unique id and a valid position."""
    from dualgeo_dagster.reporting.expectations import check_photos

    return _result({GALLERY: check_photos(workspace().photos(GALLERY).frame)})


@dg.asset_check(asset=benchmark_photos, blocking=True, name="ids_and_positions")
def benchmark_photos_check() -> dg.AssetCheckResult:
    """Every query photo of every benchmark has a unique id and a valid position."""
    from dualgeo_dagster.reporting.expectations import check_photos

    benchmarks = [
        name
        for name in workspace().profile.photos.benchmarks
        if (workspace().settings.data / workspace().source(name).photo_set).exists()
    ]
    return _result({name: check_photos(workspace().photos(name).frame) for name in benchmarks})


@dg.asset_check(asset=gallery_masks, blocking=True, name="known_classes")
def gallery_masks_check() -> dg.AssetCheckResult:
    """Every gallery photo has a label map of known classes; at least 95 % of the maps have two classes or more."""
    return _result({GALLERY: _masks_verdict(GALLERY)})


@dg.asset_check(asset=benchmark_masks, blocking=True, name="known_classes")
def benchmark_masks_check() -> dg.AssetCheckResult:
    """Every query photo has a label map of known classes; at least 95 % of the maps have two classes or more."""
    from dualgeo_core.pipeline.artifacts import Artifacts

    return _result({name: _masks_verdict(name) for name in _benchmarks_with(Artifacts.masks)})


@dg.asset_check(asset=gallery_embeddings, blocking=True, name="unit_length_and_spread")
def gallery_embeddings_check() -> dg.AssetCheckResult:
    """Every gallery photo has a unit vector in each representation, and the vectors have not collapsed to one point."""
    from dualgeo_core.retrieval.embeddings import embedding_summary
    from dualgeo_dagster.reporting.expectations import check_embeddings

    representations = workspace().profile.model.variants
    verdict = check_embeddings(
        embedding_summary({name: workspace().folder("embeddings", name) for name in representations}),
        photos=len(workspace().photos(GALLERY)),
        representations=len(representations),
    )
    return _result({GALLERY: verdict})


@dg.asset_check(asset=gallery_index, blocking=True, name="finds_the_nearest_photos")
def gallery_index_check() -> dg.AssetCheckResult:
    """The index finds the required share of the 20 nearest gallery photos, measured on 1,000 photos as queries.

    The build chose its search effort on other photos. If this fails, choose another `retrieval.index` (more bits per
    photo), or lower `retrieval.least_recall`.
    """
    from dualgeo_core.retrieval.index import measured_recall

    profile = workspace().profile
    recall = measured_recall(workspace().folder("index", profile.model.main))
    return dg.AssetCheckResult(
        passed=recall >= profile.retrieval.least_recall,
        metadata={
            "Recall@20 against exact search (%)": round(100 * recall, 1),
            "Required (%)": round(100 * profile.retrieval.least_recall, 1),
        },
    )


@dg.asset_check(asset=predictions, blocking=True, name="positions_and_radii")
def predictions_check() -> dg.AssetCheckResult:
    """Every query has one prediction: a valid position with nested radii, or a status that gives the reason."""
    from dualgeo_core.pipeline.artifacts import Artifacts
    from dualgeo_core.pipeline.methods import main_method
    from dualgeo_core.pipeline.stage2 import predictions_by_method
    from dualgeo_dagster.reporting.expectations import check_predictions

    main = main_method(workspace().profile).name
    verdicts = {}
    for name in _benchmarks_with(Artifacts.predictions):
        found = predictions_by_method(workspace(), name)[main]
        verdicts[name] = check_predictions(found, queries=len(workspace().photos(name)))
    return _result(verdicts)


@dg.asset_check(asset=locator, name=INTACT.name)
def artifacts_check() -> dg.AssetCheckResult:
    """Every file of the profile's photo sets and artifacts holds the bytes that were written.

    The job leaves this check out, because it reads every byte. Execute it here after a disk fault or a restored backup.
    """
    from dualgeo_core.pipeline.verification import verify

    damages = verify(workspace())
    rows = [f"| {damage.path} | {', '.join(damage.dependents) or 'nothing'} |" for damage in damages]
    metadata: dict[str, dg.MetadataValue[Any]] = {"damaged files": dg.MetadataValue.int(len(damages))}
    if damages:
        table = "\n".join(["| Damaged file | Made from it |", "|---|---|", *rows])
        repair = f"dualgeo verify --profile {NAME} --remove-damaged && dualgeo run --profile {NAME}"
        metadata |= {"damage": dg.MetadataValue.md(table), "repair": dg.MetadataValue.text(repair)}
    return dg.AssetCheckResult(passed=not damages, metadata=metadata)


def _masks_verdict(photos_name: str) -> "Verdict":
    from dualgeo_core.pipeline.artifacts import Artifacts
    from dualgeo_core.views.masks import mask_summary
    from dualgeo_dagster.reporting.expectations import check_masks

    artifacts = Artifacts(workspace())
    classes = int(artifacts.require(artifacts.segmenter()).facts["classes"])
    summary = mask_summary(artifacts.masks(photos_name).path)
    return check_masks(summary, classes=classes, photos=len(workspace().photos(photos_name)))


def _benchmarks_with(artifact: "Callable[[Artifacts, str], Artifact]") -> list[str]:
    """The benchmarks whose artifact is current. A check covers all of them, whatever the run's partitions.

    A stale artifact of another benchmark must not block a run that makes those of one benchmark again.
    """
    from dualgeo_core.pipeline.artifacts import Artifacts
    from dualgeo_core.pipeline.staleness import is_current

    artifacts = Artifacts(workspace())
    return [name for name in workspace().profile.photos.benchmarks if is_current(partial(artifact, artifacts, name))]


def _result(verdicts: "dict[str, Verdict]") -> dg.AssetCheckResult:
    """The verdicts as metadata: a row per sentence that was checked, with what was found in each photo set."""
    found: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        for sentence, finding in verdict.findings.items():
            found.setdefault(sentence, []).append(f"{name}: {finding}" if len(verdicts) > 1 else finding)
    return dg.AssetCheckResult(
        passed=all(verdict.passed for verdict in verdicts.values()),
        metadata={sentence: dg.MetadataValue.text("; ".join(findings)) for sentence, findings in found.items()},
    )
