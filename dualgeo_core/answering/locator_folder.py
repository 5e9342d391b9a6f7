"""The locator folder: models, index, gallery positions and refiner in one folder that can be moved."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from dualgeo_core.base.artifacts import Artifact, damaged_files, new_artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint, take_over
from dualgeo_core.base.frames import read_parquet
from dualgeo_core.base.stamps import damaged_files_since
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.refine.refiner import REFINER_FILE, Refiner, save_refiner
from dualgeo_core.retrieval.index import VECTORS
from dualgeo_core.settings import Profile, checkpoint, faults
from dualgeo_core.views.store import ShardedRows, Views

MODEL, INDEX, SEGMENTER, CHECKPOINT = "model", "index", "segmenter", "segmenter_checkpoint"
PLACES, DESCRIBED = "places.parquet", "described"


@dataclass(frozen=True)
class LocatorFolder:
    """The contents of a folder written by `pack_locator`, with every file checked against its digest."""

    folder: Path
    profile: Profile
    fingerprint: str
    encoder: str
    segmenter: str
    label_grid: int

    @property
    def gallery(self) -> "PackedGallery":
        """The gallery's positions, and the vectors for finding near-duplicates and unlike queries."""
        return PackedGallery(self.folder)


@dataclass(frozen=True)
class PackedGallery:
    """The gallery data that retrieval needs. Photographers are numbered; their names are not packed."""

    folder: Path

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Columns id, latitude, longitude, author."""
        return read_parquet(self.folder / PLACES, remedy="run the step locator again")

    def pooled(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The frozen encoder's pooled vectors of these rows, shape (rows, width)."""
        return self._described["pooled"].take(rows)

    def class_shares(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The square roots of the classes' shares of the label maps of these rows, shape (rows, classes)."""
        return self._described["class_shares"].take(rows)

    @cached_property
    def _described(self) -> dict[str, ShardedRows]:
        remedy = "run the step locator again"
        shards = [read_tensors(path, remedy=remedy) for path in sorted((self.folder / DESCRIBED).iterdir())]
        return {name: ShardedRows([shard[name] for shard in shards]) for name in ("pooled", "class_shares")}


def pack_locator(
    artifact: Artifact,
    *,
    profile: Profile,
    model: Path | None,
    index: Path,
    segmenter: Path,
    refiner: Refiner,
    gallery: Views,
) -> None:
    """Writes the locator folder `artifact`, atomically.

    `model`, `index` and `segmenter` are folders; `model` is None for the representation `encoder`.
    """
    facts = {
        "profile": profile.model_dump(mode="json"),
        "encoder": gallery.encoder,
        "segmenter": gallery.segmenter,
        "label_grid": gallery.label_grid,
    }
    with new_artifact(artifact, facts) as folder:
        if model is not None:
            shutil.copytree(model, folder / MODEL)
        shutil.copytree(index, folder / INDEX, ignore=shutil.ignore_patterns(VECTORS))
        for vectors in (index / VECTORS).glob("*"):
            (folder / INDEX / VECTORS).mkdir(exist_ok=True)
            take_over(vectors, folder / INDEX / VECTORS / vectors.name)
        shutil.copytree(segmenter, folder / SEGMENTER)
        save_refiner(folder / REFINER_FILE, refiner)
        _pack_checkpoint(profile, folder)
        _pack_gallery(gallery, folder)


def read_locator_folder(folder: Path, *, only_changed: bool = False) -> LocatorFolder:
    """The contents of a locator folder. Raises InputError if there is no locator, or a file is missing or changed.

    Reads every byte, or with `only_changed` the files that changed since they were read (`damaged_files_since`).
    """
    record = read_record(folder)
    if record is None:
        raise InputError(f"{folder} does not contain a locator: run the step locator")
    damaged = damaged_files_since(folder, record.files) if only_changed else damaged_files(folder, record)
    for path in damaged:
        raise InputError(f"{path} is missing or has changed since it was packed: run the step locator again")
    try:
        profile = Profile.model_validate(record.facts["profile"])
    except ValidationError as error:
        raise InputError(
            f"{folder} was packed from other settings ({faults(error)}): run the step locator again"
        ) from None
    signature = fingerprint("locator", record.content, profile.answering)
    if (folder / CHECKPOINT).is_dir():
        segmenter = profile.segmenter.model_copy(update={"name": str(folder / CHECKPOINT)})
        profile = profile.model_copy(update={"segmenter": segmenter})
    facts = {key: record.facts[key] for key in ("encoder", "segmenter", "label_grid")}
    return LocatorFolder(folder=folder, profile=profile, fingerprint=signature, **facts)


def _pack_checkpoint(profile: Profile, folder: Path) -> None:
    """Copies the SegFormer checkpoint if it is a local folder. A hub name stays a name."""
    source = Path(checkpoint(profile.segmenter.name))
    if profile.segmenter.kind == "segformer" and source.is_dir():
        shutil.copytree(source, folder / CHECKPOINT)


def _pack_gallery(gallery: Views, folder: Path) -> None:
    photographers = pd.Series(pd.factorize(gallery.frame["author"])[0], index=gallery.frame.index)
    places = gallery.frame[["id", "latitude", "longitude"]].assign(
        author=photographers.astype(str).where(photographers >= 0, None)
    )
    places.to_parquet(folder / PLACES, index=False)
    (folder / DESCRIBED).mkdir()
    for key in gallery.shard_keys:
        rows = np.asarray(key.rows)
        described = {"pooled": gallery.pooled(rows), "class_shares": gallery.class_shares(rows)}
        write_tensors(folder / DESCRIBED / f"{key.name}.safetensors", described)
