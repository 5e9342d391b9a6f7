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
from safetensors import safe_open
from safetensors.torch import save_file

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_folder, file_digest, fingerprint, read_json, write_json
from dualgeo_core.base.frames import read_frame, write_frame
from dualgeo_core.refine.refiner import Refiner, save_refiner
from dualgeo_core.settings import Profile, checkpoint
from dualgeo_core.views.store import Views, take_rows

MANIFEST, REFINER_FILE = "locator.json", "refiner.json"
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
    index: str
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
        return read_frame(self.folder / PLACES)

    def pooled(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The frozen encoder's pooled vectors of these rows."""
        return take_rows(self._vectors, rows)

    @cached_property
    def _vectors(self) -> list[torch.Tensor]:
        return [_mapped(path) for path in sorted((self.folder / POOLED).iterdir())]


def pack_locator(
    target: Path,
    *,
    profile: Profile,
    model: Path | None,
    index: Path,
    index_signature: str,
    segmenter: Path,
    refiner: Refiner,
    gallery: Views,
) -> dict[str, Any]:
    """Fills the folder `target`, atomically; returns how large it is. `model`, `index` and `segmenter` are folders."""
    with atomic_folder(target) as folder:
        if model is not None:
            shutil.copytree(model, folder / MODEL)
        shutil.copytree(index, folder / INDEX)
        shutil.copytree(segmenter, folder / SEGMENTER)
        save_refiner(folder / REFINER_FILE, refiner)
        _pack_checkpoint(profile, folder)
        _pack_gallery(gallery, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests = {str(path.relative_to(folder)): file_digest(path) for path in files}
        signature = fingerprint("locator", digests, profile.model_dump(mode="json"))
        write_json(
            folder / MANIFEST,
            {
                "fingerprint": signature,
                "files": digests,
                "profile": profile.model_dump(mode="json"),
                "encoder": gallery.encoder,
                "segmenter": gallery.segmenter,
                "index": index_signature,
                "label_grid": gallery.label_grid,
            },
        )
    return {
        "gallery_photos": len(gallery.frame),
        "megabytes": round(sum(path.stat().st_size for path in target.rglob("*")) / 1e6, 1),
        "fingerprint": signature,
    }


def read_locator_folder(folder: Path) -> LocatorFolder:
    """The folder's facts. Raises InputError if a file is not the one that was packed."""
    manifest = read_json(folder / MANIFEST)
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            raise InputError(f"{path} is not the file that was packed into this locator: run the step locator again")
    profile = Profile.model_validate(manifest["profile"])
    if (folder / CHECKPOINT).is_dir():
        segmenter = profile.segmenter.model_copy(update={"name": str(folder / CHECKPOINT)})
        profile = profile.model_copy(update={"segmenter": segmenter})
    return LocatorFolder(
        folder=folder,
        profile=profile,
        **{key: manifest[key] for key in ("fingerprint", "encoder", "segmenter", "index", "label_grid")},
    )


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
    write_frame(folder / PLACES, places, signature=gallery.fingerprint)
    (folder / POOLED).mkdir()
    for key, shard in zip(gallery.shard_keys, gallery.shards, strict=True):
        save_file({"pooled": shard.pooled_bd}, folder / POOLED / f"{key.name}.safetensors")


def _mapped(path: Path) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:  # memory-mapped: rows are read when they are taken
        pooled: torch.Tensor = file.get_tensor("pooled")
        return pooled
