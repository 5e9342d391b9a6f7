"""Stage 1, photos to candidates: one function per artifact, in the order in which they feed each other.

Each reads what is before it in the workspace with fingerprints checked, writes its own artifact, and returns facts
worth telling: counts, shares, rates, how many photos were `computed` in this call and how many `taken_over` from an
earlier one, and `fingerprint`, which is the artifact's version.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from dualgeo_core.base.files import read_fingerprint
from dualgeo_core.base.frames import write_frame
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.earth.canvas import CLASSES
from dualgeo_core.model.embed import embed
from dualgeo_core.model.trainer import OnMetrics, TrainingResult, train
from dualgeo_core.pipeline.methods import LEAKING
from dualgeo_core.pipeline.opening import (
    open_augmentation,
    open_encoder,
    open_model,
    open_retriever,
    open_segmenter,
    open_views,
    profile_device,
    require_same_views,
)
from dualgeo_core.pipeline.signatures import (
    candidates_signature,
    embeddings_recipe,
    embeddings_signature,
    index_signature,
)
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.retrieval.embeddings import build_embeddings, read_embeddings
from dualgeo_core.retrieval.index import build_index
from dualgeo_core.settings import Representation
from dualgeo_core.views.crop import square_crop_labels
from dualgeo_core.views.features import build_features
from dualgeo_core.views.label_maps import decode_png, mean_iou
from dualgeo_core.views.masks import build_masks
from dualgeo_core.views.segmenter import fit_segmenter

Facts = dict[str, Any]


def make_segmenter(workspace: Workspace, progress: Progress = silent) -> Facts:
    """Fits the codebook on gallery photos, or signs the SegFormer checkpoint that the profile names."""
    profile = workspace.profile
    segmenter = fit_segmenter(
        profile.segmenter,
        profile.encoder,
        photos=workspace.photos(GALLERY),
        folder=workspace.segmenter,
        device=profile_device(workspace.profile),
        progress=progress,
    )
    return {"kind": profile.segmenter.kind, "classes": segmenter.classes, "fingerprint": segmenter.fingerprint}


def make_masks(workspace: Workspace, photos_name: str, progress: Progress = silent) -> Facts:
    """Label maps of every photo; scored by mean IoU where the set knows the true ones, in the segmenter's classes."""
    segmenter = open_segmenter(workspace)
    folder = workspace.masks(photos_name)
    photos = workspace.photos(photos_name)
    made = build_masks(
        photos=photos, folder=folder, segmenter=segmenter, settings=workspace.profile.segmenter, progress=progress
    )
    facts: Facts = {
        "rows": len(photos),
        **made,
        "classes": segmenter.classes,
        "fingerprint": read_fingerprint(folder),
    }
    if photos.knows("label_map") and getattr(segmenter, "class_names", None) == CLASSES:
        facts["mean_iou"] = round(_masks_mean_iou(workspace, photos_name, classes=segmenter.classes), 4)
    return facts


def _masks_mean_iou(workspace: Workspace, photos_name: str, classes: int) -> float:
    """How far the masks agree with the true label maps of a synthetic set, over its first shard."""
    truth = next(workspace.photos(photos_name).shards(column="label_map"))
    made = pq.read_table(workspace.masks(photos_name) / f"{truth.name}.parquet")["mask"].to_pylist()
    size = workspace.profile.segmenter.mask_size
    true_maps = np.stack([np.asarray(square_crop_labels(decode_png(png), size)) for png in truth.images])
    return mean_iou(np.stack([np.asarray(decode_png(png)) for png in made]), true_maps, classes=classes)


def make_features(workspace: Workspace, photos_name: str, progress: Progress = silent) -> Facts:
    """The frozen encoder's outputs, once per photo."""
    encoder = open_encoder(workspace)
    folder = workspace.features(photos_name)
    photos = workspace.photos(photos_name)
    made = build_features(
        photos=photos, folder=folder, encoder=encoder, settings=workspace.profile.encoder, progress=progress
    )
    return {"rows": len(photos), **made, "width": encoder.width, "fingerprint": read_fingerprint(folder)}


def make_model(
    workspace: Workspace,
    representation: Representation,
    on_metrics: OnMetrics,
    give_up_others: bool = False,
    progress: Progress = silent,
) -> TrainingResult:
    """The trained model of one representation; on several processes each of them calls this."""
    profile = workspace.profile
    torch.set_num_threads(profile.threads)
    return train(
        views=open_views(workspace, GALLERY),
        profile=profile,
        variant=representation,
        folder=workspace.model(representation),
        augmented=open_augmentation(workspace),
        give_up_others=give_up_others,
        on_metrics=on_metrics,
        progress=progress,
    )


def make_embeddings(workspace: Workspace, representation: Representation, progress: Progress = silent) -> Facts:
    """The gallery's retrieval vectors in one representation."""
    views = open_views(workspace, GALLERY)
    model = open_model(workspace, representation)
    folder = workspace.embeddings(representation)
    made = build_embeddings(
        views=views,
        folder=folder,
        recipe=embeddings_recipe(workspace, representation),
        embed=lambda rows: embed(
            model=model, views=views, variant=representation, rows=rows, device=profile_device(workspace.profile)
        ),
        progress=progress,
    )
    return {"rows": len(views.frame), **made, "fingerprint": read_fingerprint(folder)}


def make_index(workspace: Workspace, representation: Representation) -> Facts:
    """The FAISS index over one representation of the gallery."""
    embeddings = embeddings_signature(workspace, representation)
    signature = index_signature(workspace, representation)
    made = build_index(
        folder=workspace.index(representation),
        shards=read_embeddings(workspace.embeddings(representation), signature=embeddings),
        specification=workspace.profile.retrieval.index,
        signature=signature,
    )
    return {
        "rows": made["computed"] + made["taken_over"],
        **made,
        "specification": workspace.profile.retrieval.index,
        "fingerprint": signature,
    }


def make_candidates(workspace: Workspace, benchmark: str) -> Facts:
    """Per query of a benchmark its candidates in every representation, and what the main one finds with leakage."""
    gallery, queries = open_views(workspace, GALLERY), open_views(workspace, benchmark)
    require_same_views(gallery, queries)
    parts = []
    for representation in workspace.profile.model.variants:
        retriever = open_retriever(workspace, representation, gallery)
        parts.append(retriever.candidates(queries).assign(representation=representation))
        if representation == workspace.profile.model.main:
            leaking = retriever.leaking_candidates(queries)
            parts.append(leaking.assign(representation=f"{representation}{LEAKING}"))
    candidates = pd.concat(parts, ignore_index=True)
    signature = candidates_signature(workspace, benchmark)
    write_frame(workspace.candidates(benchmark), candidates, signature=signature)
    return {"queries": len(queries.frame), "rows": len(candidates), "fingerprint": signature}
