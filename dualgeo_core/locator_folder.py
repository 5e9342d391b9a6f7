"""All it takes to locate photos in one folder that can be moved: models, index, gallery places, refiner."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dualgeo_core.errors import InputError
from dualgeo_core.files import atomic_folder, file_digest, fingerprint, read_json, write_json
from dualgeo_core.frames import read_frame, write_frame
from dualgeo_core.loading import open_model, open_retriever
from dualgeo_core.refine.refiner import save_refiner
from dualgeo_core.settings import Profile, checkpoint
from dualgeo_core.stage2 import open_refiner
from dualgeo_core.workspace import REFINER_FILE, Workspace

MANIFEST = "locator.json"
CHECKPOINT = "segmenter_checkpoint"
GALLERY_COLUMNS = ["id", "latitude", "longitude"]


@dataclass(frozen=True)
class LocatorFolder:
    """A folder that `pack_locator` made, every file of it checked against its digest."""

    folder: Path
    profile: Profile
    fingerprint: str
    encoder: str
    segmenter: str
    index: str
    label_grid: int

    @property
    def gallery(self) -> pd.DataFrame:
        return read_frame(self.folder / "gallery.parquet")


def pack_locator(workspace: Workspace) -> dict[str, Any]:
    """Gathers what answers into `workspace.locator`; only what belongs together is packed."""
    profile = workspace.profile
    representation = profile.model.main
    retriever = open_retriever(workspace, representation)
    open_model(workspace, representation)
    with atomic_folder(workspace.locator) as folder:
        if representation != "encoder":
            shutil.copytree(workspace.model(representation), folder / "model")
        shutil.copytree(workspace.index(representation), folder / "index")
        shutil.copytree(workspace.segmenter, folder / "segmenter")
        save_refiner(folder / REFINER_FILE, open_refiner(workspace))
        _pack_checkpoint(profile, folder)
        gallery = retriever.gallery
        write_frame(folder / "gallery.parquet", gallery.frame[GALLERY_COLUMNS], signature=gallery.fingerprint)
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
                "index": retriever.index.signature,
                "label_grid": gallery.label_grid,
            },
        )
    return {
        "gallery_photos": len(retriever.gallery.frame),
        "megabytes": round(sum(path.stat().st_size for path in workspace.locator.rglob("*")) / 1e6, 1),
        "fingerprint": signature,
    }


def read_locator_folder(folder: Path) -> LocatorFolder:
    """The folder's facts; raises InputError where a file is not the one that was packed."""
    manifest = read_json(folder / MANIFEST)
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            raise InputError(f"{path} is not the file that was packed into this locator: materialize locator again")
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
    """A segmenter that is a folder travels along; one of the model hub stays a name."""
    source = Path(checkpoint(profile.segmenter.name))
    if profile.segmenter.kind == "segformer" and source.is_dir():
        shutil.copytree(source, folder / CHECKPOINT)
