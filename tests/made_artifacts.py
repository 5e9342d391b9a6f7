"""Artifacts as a test needs them: of a given recipe and given inputs, in any folder."""

from pathlib import Path

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import EncoderSettings, SegmenterSettings
from dualgeo_core.views.encoder import Encoder
from dualgeo_core.views.features import FeatureWriter, build_features
from dualgeo_core.views.masks import MaskWriter, build_label_maps, build_masks
from dualgeo_core.views.segmenter import Segmenter
from dualgeo_core.views.store import Views, load_views


def artifact(folder: Path, *, recipe: str = "made", step: str = "made", **inputs: str) -> Artifact:
    return Artifact(folder, step=step, recipe=recipe, inputs=inputs)


def make_features(folder: Path, *, photos: Photos, encoder: Encoder, settings: EncoderSettings, **more):  # type: ignore[no-untyped-def]
    """Builds the features of a set as the pipeline does; returns the counts."""
    made = artifact(folder, recipe=settings.fingerprint, photos=photos.fingerprint, encoder=encoder.fingerprint)
    return build_features(made, FeatureWriter(photos=photos, encoder=encoder, settings=settings), **more)


def make_masks(
    folder: Path, *, photos: Photos, segmenter: Segmenter, settings: SegmenterSettings, label_grid: int
) -> None:
    """Builds the masks of a set in `folder`, and its label maps next to it."""
    made = artifact(folder, recipe=settings.fingerprint, photos=photos.fingerprint, segmenter=segmenter.fingerprint)
    build_masks(made, MaskWriter(photos=photos, segmenter=segmenter, settings=settings))
    maps = artifact(label_maps_of(folder), recipe=str(label_grid), masks=made.require().content)
    build_label_maps(maps, photos=photos, masks=folder, label_grid=label_grid)


def label_maps_of(masks: Path) -> Path:
    return masks.with_name(f"{masks.name}-label-maps")


def made_views(photos: Photos, *, features: Path, masks: Path) -> Views:
    return load_views(photos=photos, features=features, masks=masks, label_maps=label_maps_of(masks))
