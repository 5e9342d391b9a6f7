"""All it takes to locate photos in one folder that can be moved: models, index, gallery places, refiner."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Artifact, damaged_files, new_artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.frames import read_parquet
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.refine.refiner import REFINER_FILE, Refiner, save_refiner
from dualgeo_core.settings import Profile, checkpoint
from dualgeo_core.views.store import Views, take_rows

MODEL, INDEX, SEGMENTER, CHECKPOINT = "model", "index", "segmenter", "segmenter_checkpoint"
PLACES, POOLED = "places.parquet", "pooled"


@dataclass(frozen=True)
class LocatorFolder:
    """A folder that `pack_locator` filled, every file checked against its digest."""

    folder: Path
    profile: Profile
    fingerprint: str
    encoder: str
    segmenter: str
    label_grid: int

    @property
    def gallery(self) -> "PackedGallery":
        """The gallery's places, and the pooled vectors that tell near-duplicates."""
        return PackedGallery(self.folder)


@dataclass(frozen=True)
class PackedGallery:
    """What retrieval needs of a gallery. Photographers are numbers here: a name has no use in a packed folder."""

    folder: Path

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Columns id, latitude, longitude, author."""
        return read_parquet(self.folder / PLACES, remedy="run the step locator again")

    def pooled(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The frozen encoder's pooled vectors of these rows."""
        return take_rows(self._vectors, rows)

    @cached_property
    def _vectors(self) -> list[torch.Tensor]:
        remedy = "run the step locator again"
        return [read_tensors(path, remedy=remedy)["pooled"] for path in sorted((self.folder / POOLED).iterdir())]


def pack_locator(
    artifact: Artifact,
    *,
    profile: Profile,
    model: Path | None,
    index: Path,
    segmenter: Path,
    refiner: Refiner,
    gallery: Views,
) -> dict[str, Any]:
    """Makes `artifact` of these parts, of which `model`, `index` and `segmenter` are folders; returns its size."""
    facts = {
        "profile": profile.model_dump(mode="json"),
        "encoder": gallery.encoder,
        "segmenter": gallery.segmenter,
        "label_grid": gallery.label_grid,
    }
    with new_artifact(artifact, facts) as folder:
        if model is not None:
            shutil.copytree(model, folder / MODEL)
        shutil.copytree(index, folder / INDEX)
        shutil.copytree(segmenter, folder / SEGMENTER)
        save_refiner(folder / REFINER_FILE, refiner)
        _pack_checkpoint(profile, folder)
        _pack_gallery(gallery, folder)
    packed = read_locator_folder(artifact.path)
    return {
        "gallery_photos": len(gallery.frame),
        "megabytes": round(sum(path.stat().st_size for path in artifact.path.rglob("*")) / 1e6, 1),
        "fingerprint": packed.fingerprint,
    }


def read_locator_folder(folder: Path) -> LocatorFolder:
    """The folder's facts. Raises InputError if there is no locator, or a file is not the one that was packed."""
    record = read_record(folder)
    if record is None:
        raise InputError(f"{folder} holds no locator: run the step locator")
    for path in damaged_files(folder, record):
        raise InputError(f"{path} is not the file that was packed into this locator: run the step locator again")
    profile = Profile.model_validate(record.facts["profile"])
    signature = fingerprint("locator", record.content, record.facts["profile"])
    if (folder / CHECKPOINT).is_dir():
        segmenter = profile.segmenter.model_copy(update={"name": str(folder / CHECKPOINT)})
        profile = profile.model_copy(update={"segmenter": segmenter})
    facts = {key: record.facts[key] for key in ("encoder", "segmenter", "label_grid")}
    return LocatorFolder(folder=folder, profile=profile, fingerprint=signature, **facts)


def _pack_checkpoint(profile: Profile, folder: Path) -> None:
    """Copies a segmenter that is a folder. One of the model hub stays a name."""
    source = Path(checkpoint(profile.segmenter.name))
    if profile.segmenter.kind == "segformer" and source.is_dir():
        shutil.copytree(source, folder / CHECKPOINT)


def _pack_gallery(gallery: Views, folder: Path) -> None:
    photographers = pd.Series(pd.factorize(gallery.frame["author"])[0], index=gallery.frame.index)
    places = gallery.frame[["id", "latitude", "longitude"]].assign(
        author=photographers.astype(str).where(photographers >= 0, None)
    )
    places.to_parquet(folder / PLACES, index=False)
    (folder / POOLED).mkdir()
    for key, shard in zip(gallery.shard_keys, gallery.shards, strict=True):
        write_tensors(folder / POOLED / f"{key.name}.safetensors", {"pooled": shard.pooled_bd})
