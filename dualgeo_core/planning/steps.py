"""Runs the steps of a workspace one after the other and measures each: the calibration, and a check of its rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.stage1 import (
    make_candidates,
    make_embeddings,
    make_features,
    make_index,
    make_masks,
    make_model,
    make_relit_views,
    make_segmenter,
)
from dualgeo_core.pipeline.stage2 import (
    make_clusters,
    make_lmm_answers,
    make_locator,
    make_predictions,
    make_refiner,
    make_scores,
)
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.planning.meter import Reading, metered
from dualgeo_core.retrieval.embeddings import read_embeddings

BENCHMARK = "queries"
FOLDERS = {
    "segmenter": ("segmenter",),
    "gallery_masks": (f"masks/{GALLERY}", f"label_maps/{GALLERY}"),
    "gallery_features": (f"features/{GALLERY}",),
    "relit_views": ("relit_views",),
    "models": ("models",),
    "gallery_embeddings": ("embeddings",),
    "gallery_index": ("index",),
    "refiner": ("refiner",),
    "locator": ("locator",),
    "benchmarks": tuple(
        f"{kind}/{BENCHMARK}"
        for kind in (
            "masks",
            "label_maps",
            "features",
            "candidates",
            "clusters",
            "lmm_answers",
            "predictions",
            "scores",
        )
    ),
}


@dataclass
class Measured:
    """By asset: a reading and the bytes on disk. And what a photo takes in a training step, over all trained models."""

    readings: dict[str, Reading] = field(default_factory=dict)
    disk: dict[str, float] = field(default_factory=dict)
    seconds_per_trained_photo: float = 0.0


def run_assets(workspace: Workspace, assets: Sequence[str], *, into: Measured) -> None:
    """Makes these assets of a workspace whose benchmark is BENCHMARK, and adds what each took to `into`."""
    for asset in assets:
        with metered() as reading:
            STEPS[asset](workspace, into)
        into.readings[asset] = reading
        folders = [workspace.settings.artifacts / folder for folder in FOLDERS[asset]]
        into.disk[asset] = sum(
            path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()
        )


def retrieval_width(workspace: Workspace) -> int:
    """The number of dimensions of the main retrieval vector."""
    return read_embeddings(Artifacts(workspace).embeddings(workspace.profile.model.main))[0].width


def _train(workspace: Workspace, measured: Measured) -> None:
    """Trains all models, and notes what a photo takes in a training step."""
    measured.seconds_per_trained_photo = 0.0
    for representation in workspace.profile.model.variants:
        if representation == "encoder":
            continue
        rates: list[float] = []

        def note(step: int, metrics: dict[str, float], rates: list[float] = rates) -> None:
            rates.append(metrics["photos_per_second"])

        make_model(workspace, representation, note)
        measured.seconds_per_trained_photo += 1 / median(rates)


def _embeddings(workspace: Workspace, measured: Measured) -> None:
    for representation in workspace.profile.model.variants:
        make_embeddings(workspace, representation)


def _index(workspace: Workspace, measured: Measured) -> None:
    for representation in workspace.profile.model.variants:
        make_index(workspace, representation)


def _benchmark(workspace: Workspace, measured: Measured) -> None:
    make_masks(workspace, BENCHMARK)
    make_features(workspace, BENCHMARK)
    make_candidates(workspace, BENCHMARK)
    make_lmm_answers(workspace, BENCHMARK)
    make_clusters(workspace, BENCHMARK)
    make_predictions(workspace, BENCHMARK)
    make_scores(workspace, BENCHMARK)


# The assets in their order.
STEPS: dict[str, Callable[[Workspace, Measured], object]] = {
    "segmenter": lambda workspace, _: make_segmenter(workspace),
    "gallery_masks": lambda workspace, _: make_masks(workspace, GALLERY),
    "gallery_features": lambda workspace, _: make_features(workspace, GALLERY),
    "relit_views": lambda workspace, _: make_relit_views(workspace),
    "models": _train,
    "gallery_embeddings": _embeddings,
    "gallery_index": _index,
    "refiner": lambda workspace, _: make_refiner(workspace),
    "locator": lambda workspace, _: make_locator(workspace),
    "benchmarks": _benchmark,
}
