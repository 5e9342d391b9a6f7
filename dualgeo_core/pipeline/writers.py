"""The writers of a workspace's shards, and where they run: in this process, or in those of a Ray cluster.

A worker of a cluster knows the workspace and opens its writer itself, so no weights and no photos are sent to it.
"""

from collections.abc import Callable
from functools import partial

from dualgeo_core.base.shards import Engine, Write, in_this_process
from dualgeo_core.model.embed import embed
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.opening import (
    open_encoder,
    open_model,
    open_segmenter,
    open_views,
    profile_decoders,
    profile_device,
    profile_workers,
)
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.retrieval.embeddings import EmbeddingWriter
from dualgeo_core.settings import Representation
from dualgeo_core.views.features import FeatureWriter
from dualgeo_core.views.masks import MaskWriter
from dualgeo_core.views.relit import RelitEncoding, RelitWriter


def mask_writer(workspace: Workspace, photos_name: str) -> MaskWriter:
    """The writer of a photo set's masks."""
    return MaskWriter(
        photos=workspace.photos(photos_name),
        segmenter=open_segmenter(workspace),
        settings=workspace.profile.segmenter,
        workers=profile_workers(workspace.profile),
        decoders=profile_decoders(workspace.profile),
    )


def feature_writer(workspace: Workspace, photos_name: str) -> FeatureWriter:
    """The writer of a photo set's features."""
    return FeatureWriter(
        photos=workspace.photos(photos_name),
        encoder=open_encoder(workspace),
        settings=workspace.profile.encoder,
        workers=profile_workers(workspace.profile),
        decoders=profile_decoders(workspace.profile),
    )


def relit_writer(workspace: Workspace, copy: int) -> RelitWriter:
    """The writer of a relit copy of the gallery; copies are numbered from 1."""
    profile = workspace.profile
    encoding = RelitEncoding(
        encoder=open_encoder(workspace),
        segmenter=open_segmenter(workspace),
        settings=profile.relighting,
        size=max(profile.encoder.image_size, profile.segmenter.image_size),
        batch_size=profile.encoder.batch_size,
        label_grid=profile.model.label_grid,
    )
    return RelitWriter(
        photos=workspace.photos(GALLERY),
        masks=Artifacts(workspace).masks(GALLERY).path,
        copy=copy,
        encoding=encoding,
        workers=profile_workers(profile),
        decoders=profile_decoders(profile),
    )


def embedding_writer(workspace: Workspace, representation: Representation, *, intact: bool = False) -> EmbeddingWriter:
    """The writer of the gallery's retrieval vectors in one representation, with `intact` after a check of its views."""
    views, model = open_views(workspace, GALLERY, intact=intact), open_model(workspace, representation)
    device = profile_device(workspace.profile)
    return EmbeddingWriter(
        views, lambda rows: embed(model=model, views=views, variant=representation, rows=rows, device=device).search_nd
    )


def shard_engine(workspace: Workspace, open_writer: Callable[..., Write], name: str | int) -> Engine:
    """Where the profile writes shards; each worker of a cluster calls `open_writer(workspace, name)`."""
    if workspace.profile.engine == "local":
        return in_this_process
    from dualgeo_core.pipeline.cluster import Cluster

    profile = workspace.profile
    return Cluster(
        partial(open_writer, workspace, name), settings=profile.ray, threads=profile.threads, device=profile.device
    )
