"""Stage 1, from photos to candidates: one function per artifact, in pipeline order.

Each function opens its inputs, checks them against their records, writes its artifact and returns facts about it:
counts, shares, rates, and the `fingerprint` of its content. `computed` counts the photos computed in this call and
`taken_over` those reused from an earlier call.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.frames import read_parquet, write_table
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.earth.canvas import CLASSES
from dualgeo_core.model.trainer import OnMetrics, TrainingResult, train
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.pipeline.artifacts import Artifacts, facts_of
from dualgeo_core.pipeline.methods import LEAKING
from dualgeo_core.pipeline.opening import (
    open_augmentation,
    open_relit_views,
    open_retriever,
    open_views,
    profile_device,
    require_same_views,
    training_threads,
)
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.pipeline.writers import (
    embedding_writer,
    feature_writer,
    mask_writer,
    relit_writer,
    shard_engine,
)
from dualgeo_core.retrieval.embeddings import build_embeddings, read_embeddings
from dualgeo_core.retrieval.index_build import build_index
from dualgeo_core.settings import Representation
from dualgeo_core.views.crop import square_crop_labels
from dualgeo_core.views.features import build_features
from dualgeo_core.views.label_maps import decode_png, mean_iou
from dualgeo_core.views.masks import build_label_maps, build_masks
from dualgeo_core.views.relit import build_relit_views
from dualgeo_core.views.segmenter import fit_segmenter

Metadata = dict[str, Any]


def _photos(workspace: Workspace, photos_name: str) -> Photos:
    """The photos by name. Raises InputError if the gallery is too small for the profile's index."""
    photos = workspace.photos(photos_name)
    if photos_name == GALLERY:
        workspace.profile.retrieval.require_enough_photos(len(photos))
    return photos


def make_segmenter(workspace: Workspace, progress: Progress = silent) -> Metadata:
    """Fits the codebook on gallery photos, or records the fingerprint of the profile's SegFormer checkpoint."""
    profile = workspace.profile
    photos = _photos(workspace, GALLERY)
    segmenter = fit_segmenter(
        Artifacts(workspace).segmenter(),
        settings=profile.segmenter,
        encoder_settings=profile.encoder,
        photos=photos,
        device=profile_device(profile),
        progress=progress,
    )
    return {"kind": profile.segmenter.kind, "classes": segmenter.classes, "fingerprint": segmenter.fingerprint}


def make_masks(workspace: Workspace, photos_name: str, progress: Progress = silent) -> Metadata:
    """Writes the label map of every photo, as PNG and at the model's label grid.

    The facts include the mean IoU if the photo set has true label maps in the segmenter's classes.
    """
    photos = _photos(workspace, photos_name)
    writer, artifacts = mask_writer(workspace, photos_name), Artifacts(workspace)
    masks, segmenter = artifacts.masks(photos_name), writer.segmenter
    made = build_masks(masks, writer, engine=shard_engine(workspace, mask_writer, photos_name), progress=progress)
    label_maps = artifacts.label_maps(photos_name)
    if not label_maps.is_current():
        masks.require_intact()
    build_label_maps(
        label_maps,
        photos=photos,
        masks=masks.path,
        label_grid=workspace.profile.model.label_grid,
    )
    facts: Metadata = {
        "rows": len(photos),
        **made,
        "classes": segmenter.classes,
        "fingerprint": artifacts.require(masks).content,
    }
    if photos.knows("label_map") and getattr(segmenter, "class_names", None) == CLASSES:
        facts["mean_iou"] = round(_masks_mean_iou(workspace, photos_name, classes=segmenter.classes), 4)
    return facts


def _masks_mean_iou(workspace: Workspace, photos_name: str, classes: int) -> float:
    """Mean IoU (0 to 1) of the masks against the true label maps, over the first shard."""
    truth = next(workspace.photos(photos_name).shards(column="label_map"))
    masks = workspace.folder("masks", photos_name) / f"{truth.name}.parquet"
    made = read_parquet(masks, columns=["mask"], remedy="run the step masks again")["mask"]
    size = workspace.profile.segmenter.mask_size
    true_maps = np.stack([np.asarray(square_crop_labels(decode_png(png), size)) for png in truth.images])
    return mean_iou(np.stack([np.asarray(decode_png(png)) for png in made]), true_maps, classes=classes)


def make_features(workspace: Workspace, photos_name: str, progress: Progress = silent) -> Metadata:
    """Writes the frozen encoder's pooled vector and patch tokens of every photo."""
    photos = _photos(workspace, photos_name)
    writer = feature_writer(workspace, photos_name)
    artifact = Artifacts(workspace).features(photos_name, encoder=writer.encoder.fingerprint)
    engine = shard_engine(workspace, feature_writer, photos_name)
    made = build_features(artifact, writer, engine=engine, progress=progress)
    return {"rows": len(photos), **made, "width": writer.encoder.width, "fingerprint": artifact.require().content}


def make_relit_views(workspace: Workspace, progress: Progress = silent) -> Metadata:
    """Writes both views of every relit copy of the gallery; nothing if the profile has no relighting."""
    profile = workspace.profile
    copies = profile.relighting.copies
    made = [_make_relit_copy(workspace, copy, progress) for copy in range(1, copies + 1)]
    counts = {count: sum(facts[count] for facts in made) for count in ("computed", "taken_over")}
    return {"copies": copies, **counts, "fingerprint": fingerprint([facts["fingerprint"] for facts in made])}


def _make_relit_copy(workspace: Workspace, copy: int, progress: Progress) -> Metadata:
    artifacts = Artifacts(workspace)
    artifact, masks = artifacts.relit_views(copy), artifacts.masks(GALLERY)
    masks_record = artifacts.require(masks) if artifact.is_current() else masks.require_intact()
    made = build_relit_views(
        artifact,
        relit_writer(workspace, copy),
        masks_record=masks_record,
        engine=shard_engine(workspace, relit_writer, copy),
        progress=progress,
    )
    return {**made, "fingerprint": artifact.require().content}


def make_model(
    workspace: Workspace,
    representation: Representation,
    on_metrics: OnMetrics,
    give_up_others: bool = False,
    progress: Progress = silent,
) -> TrainingResult:
    """Trains the model of one representation. With several training processes, each one calls this function."""
    profile = workspace.profile
    gallery, augmented = open_views(workspace, GALLERY, intact=True), open_augmentation(workspace)
    torch.set_num_threads(training_threads(profile))
    return train(
        views=gallery,
        relit=open_relit_views(workspace, gallery, intact=True),
        profile=profile,
        variant=representation,
        folder=workspace.folder("models", representation),
        augmented=augmented,
        give_up_others=give_up_others,
        on_metrics=on_metrics,
        progress=progress,
    )


def make_embeddings(workspace: Workspace, representation: Representation, progress: Progress = silent) -> Metadata:
    """Writes the gallery's retrieval vectors in one representation."""
    artifact = Artifacts(workspace).embeddings(representation)
    writer = embedding_writer(workspace, representation, intact=not artifact.is_current())
    made = build_embeddings(
        artifact,
        writer,
        shard_recipe=artifact.inputs.get(f"{representation} model", "no model"),
        engine=shard_engine(workspace, embedding_writer, representation),
        progress=progress,
    )
    return {"rows": made["computed"] + made["taken_over"], **made, "fingerprint": artifact.require().content}


def make_index(workspace: Workspace, representation: Representation) -> Metadata:
    """Writes the FAISS index of the gallery in one representation."""
    artifacts = Artifacts(workspace)
    artifact = artifacts.index(representation)
    shards = read_embeddings(artifacts.embeddings(representation))
    device = profile_device(workspace.profile).type
    made = build_index(artifact, shards=shards, settings=workspace.profile.retrieval, device=device)
    facts = facts_of(artifact)
    return {
        "rows": made["computed"] + made["taken_over"],
        **made,
        "specification": facts["specification"],
        "recall_at_20": facts.get("recall_at_20", 1.0),
        "fingerprint": facts["fingerprint"],
    }


def make_candidates(workspace: Workspace, benchmark: str) -> Metadata:
    """Writes each query's candidates in every representation, and those of the main one with leakage."""
    artifact = Artifacts(workspace).candidates(benchmark)
    if not artifact.is_current():
        _write_candidates(artifact, workspace, benchmark)
    return facts_of(artifact)


def _write_candidates(artifact: Artifact, workspace: Workspace, benchmark: str) -> None:
    gallery, queries = (open_views(workspace, name, intact=True) for name in (GALLERY, benchmark))
    require_same_views(gallery, queries)
    parts = []
    for representation in workspace.profile.model.variants:
        retriever = open_retriever(workspace, representation, gallery)
        parts.append(retriever.candidates(queries).assign(representation=representation))
        if representation == workspace.profile.model.main:
            leaking = retriever.leaking_candidates(queries)
            parts.append(leaking.assign(representation=f"{representation}{LEAKING}"))
    candidates = pd.concat(parts, ignore_index=True)
    write_table(artifact, candidates, {"queries": len(queries.frame), "rows": len(candidates)})
