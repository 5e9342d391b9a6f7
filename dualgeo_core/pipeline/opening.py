"""Opens the artifacts of a workspace on the profile's device, and refuses artifacts with non-matching inputs."""

import os
from functools import partial
from typing import TYPE_CHECKING

import torch

from dualgeo_core.answering.answerer import Answerer
from dualgeo_core.base.devices import choose_device
from dualgeo_core.base.errors import InputError
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.refine.density import PhotoDensity, gallery_density
from dualgeo_core.refine.refiner import REFINER_FILE, Refiner, load_refiner
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.settings import Profile, Representation
from dualgeo_core.views.batches import DECODERS
from dualgeo_core.views.encoder import Encoder, load_encoder
from dualgeo_core.views.relit import load_relit_views
from dualgeo_core.views.segmenter import Segmenter, load_segmenter
from dualgeo_core.views.store import Views, load_views

if TYPE_CHECKING:
    from dualgeo_core.model.augmentation import AugmentedEncoding


def profile_device(profile: Profile) -> torch.device:
    """The device of the profile's models."""
    return choose_device(profile.device, threads=profile.threads)


def profile_workers(profile: Profile) -> int:
    """The number of batches that the profile's frozen models compute at once: one per CPU thread.

    On a GPU two: one is prepared, or written, while the other is computed.
    """
    return profile.threads if profile_device(profile).type == "cpu" else 2


def profile_decoders(profile: Profile) -> int:
    """Threads that decode photos for a model: two beside a model on the CPU, otherwise one per core of this process."""
    if profile_device(profile).type == "cpu":
        return DECODERS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or DECODERS
    return profile.ray.cpus or profile.threads if profile.engine == "ray" else cores


def trains_side_by_side(profile: Profile) -> bool:
    """Whether the profile's models train at the same time: on a CPU with several threads, which they share."""
    return profile_device(profile).type == "cpu" and profile.threads > 1


def training_threads(profile: Profile) -> int:
    """CPU threads that train one model."""
    models = sum(variant != "encoder" for variant in profile.model.variants)
    return max(1, profile.threads // models) if models and trains_side_by_side(profile) else profile.threads


def open_encoder(workspace: Workspace) -> Encoder:
    """The profile's frozen image encoder."""
    return load_encoder(workspace.profile.encoder, device=profile_device(workspace.profile))


def open_segmenter(workspace: Workspace) -> Segmenter:
    """The segmenter written by the step `segmenter`. Raises InputError if the profile's settings have changed since."""
    artifact = Artifacts(workspace).segmenter()
    artifact.require_intact()
    profile = workspace.profile
    return load_segmenter(profile.segmenter, profile.encoder, folder=artifact.path, device=profile_device(profile))


def open_model(workspace: Workspace, representation: Representation) -> DualViewModel | None:
    """The trained model of a representation; None for `encoder`, which needs none."""
    if representation == "encoder":
        return None
    artifact = Artifacts(workspace).model(representation)
    artifact.require_intact()
    model = DualViewModel.from_pretrained(artifact.path)
    return model.to(profile_device(workspace.profile)).eval()


def open_views(workspace: Workspace, photos_name: str, *, intact: bool = False) -> Views:
    """Both views of a photo set, with `intact` after a check of all files.

    Raises InputError if the photos or the settings have changed since, or if a file is damaged.
    """
    artifacts = Artifacts(workspace)
    parts = (artifacts.features(photos_name), artifacts.masks(photos_name), artifacts.label_maps(photos_name))
    for part in parts:
        part.require_intact() if intact else part.require()
    features, masks, label_maps = (part.path for part in parts)
    return load_views(photos=workspace.photos(photos_name), features=features, masks=masks, label_maps=label_maps)


def open_relit_views(workspace: Workspace, gallery: Views, *, intact: bool = False) -> tuple[Views, ...]:
    """The views of each relit copy of the gallery, in its rows; none if the profile has no relighting.

    To calibrate on photos in other light, pass one to `Answerer.candidates` with the rows of held-out photographers
    (`split_by_photographer(...).queries`). Raises InputError as `open_views`.
    """
    found = []
    for copy in range(1, workspace.profile.relighting.copies + 1):
        artifact = Artifacts(workspace).relit_views(copy)
        record = artifact.require_intact() if intact else artifact.require()
        found.append(load_relit_views(artifact.path, record, gallery=gallery))
    return tuple(found)


def open_augmentation(workspace: Workspace) -> "AugmentedEncoding | None":
    """The encoding of augmented gallery photos in every training step; None unless `training.recompute` is set."""
    if not workspace.profile.training.recompute:
        return None
    from dualgeo_core.model.augmentation import AugmentedEncoding

    return AugmentedEncoding(
        photos=workspace.photos(GALLERY),
        masks_folder=workspace.folder("masks", GALLERY),
        encoder=open_encoder(workspace),
        label_grid=workspace.profile.model.label_grid,
    )


def open_retriever(workspace: Workspace, representation: Representation, gallery: Views) -> Retriever:
    """The retriever of a representation over `gallery`. Raises InputError if model, index and gallery do not match."""
    artifact = Artifacts(workspace).index(representation)
    artifact.require_intact()
    retrieval = workspace.profile.retrieval
    return Retriever(
        representation=representation,
        model=open_model(workspace, representation),
        index=GalleryIndex.open(artifact.path),
        gallery=gallery,
        settings=retrieval,
        device=profile_device(workspace.profile),
    )


def open_refiner(workspace: Workspace) -> Refiner:
    """The refiner of the current index. Raises InputError if it is stale."""
    artifact = Artifacts(workspace).refiner()
    artifact.require_intact()
    return load_refiner(artifact.path / REFINER_FILE)


def open_answerer(workspace: Workspace) -> Answerer:
    """The profile's answerer. Its parts are opened at first use."""
    return Answerer(
        profile=workspace.profile,
        open_retriever=partial(_open_main_retriever, workspace),
        open_refiner=partial(open_refiner, workspace),
        open_density=partial(_open_density, workspace),
        replies=workspace.lmm_replies,
    )


def _open_main_retriever(workspace: Workspace) -> Retriever:
    return open_retriever(workspace, workspace.profile.model.main, open_views(workspace, GALLERY))


def _open_density(workspace: Workspace) -> PhotoDensity:
    return gallery_density(workspace.photos(GALLERY).frame)


def require_same_views(gallery: Views, queries: Views) -> None:
    """Raises InputError if queries and gallery were processed by different encoders or segmenters."""
    for view, step in (("encoder", "features"), ("segmenter", "masks")):
        theirs, ours = getattr(queries, view), getattr(gallery, view)
        if theirs != ours:
            raise InputError(
                f"the {view} of the queries ({theirs}) differs from that of the gallery ({ours}): "
                f"run the step {step} again"
            )
