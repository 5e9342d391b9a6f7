"""Checks every byte of a workspace against its records, and removes what is damaged so that steps make it again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dualgeo_core.base.artifacts import RECORD, damaged_files, read_record
from dualgeo_core.base.files import file_digest, read_json
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.photo_set import MANIFEST
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.refine.lmm.cache import damaged_replies

# Which kinds of artifacts are made from which; `photos` are the photo sets.
FEEDS = {
    "photos": ("segmenter", "features", "masks"),
    "segmenter": ("masks", "locator"),
    "features": ("models", "embeddings", "candidates", "refiner", "locator"),
    "masks": ("label_maps",),
    "label_maps": ("models", "embeddings", "candidates", "refiner", "locator"),
    "models": ("embeddings", "candidates", "refiner", "locator"),
    "embeddings": ("index",),
    "index": ("candidates", "refiner", "locator"),
    "candidates": ("clusters", "lmm_answers", "predictions"),
    "refiner": ("predictions", "locator"),
    "clusters": (),
    "lmm_replies": ("lmm_answers",),
    "lmm_answers": ("predictions",),
    "predictions": ("scores",),
    "scores": (),
    "locator": (),
}


@dataclass(frozen=True)
class Damage:
    """A file that is missing or does not hold the recorded bytes, and the kinds of artifacts made from it."""

    path: Path
    kind: str
    dependents: tuple[str, ...]

    @property
    def can_be_removed(self) -> bool:
        """Whether a step makes the file again. A photo set has to be restored by whoever ingested it."""
        return self.kind != "photos"


def verify(workspace: Workspace, progress: Progress = silent) -> list[Damage]:
    """Every damaged file of the profile's photo sets and artifacts. Reads every byte."""
    found = [Damage(path, "photos", dependents_of("photos")) for path in _damaged_photos(workspace)]
    folders = [(kind, folder) for kind in FEEDS for folder in _artifact_folders(workspace.folder(kind))]
    for done, (kind, folder) in enumerate(folders, start=1):
        found += [Damage(path, kind, dependents_of(kind)) for path in _damaged(folder)]
        progress("verify", done, len(folders))
    replies = damaged_replies(workspace.lmm_replies)
    return found + [Damage(path, "lmm_replies", dependents_of("lmm_replies")) for path in replies]


def remove_damaged(damages: list[Damage]) -> list[Damage]:
    """Removes damaged files that a step can make again, so that the next run does; returns those that remain."""
    for damage in damages:
        if damage.can_be_removed:
            damage.path.unlink(missing_ok=True)
    return [damage for damage in damages if not damage.can_be_removed]


def dependents_of(kind: str) -> tuple[str, ...]:
    """All kinds of artifacts made from this one, directly or through others, in the order in which they are made."""
    reached: set[str] = set()
    waiting = list(FEEDS[kind])
    while waiting:
        following = waiting.pop()
        if following not in reached:
            reached.add(following)
            waiting += FEEDS[following]
    return tuple(name for name in FEEDS if name in reached)


def _damaged(folder: Path) -> list[Path]:
    record = read_record(folder)
    return [folder / RECORD] if record is None else damaged_files(folder, record)


def _damaged_photos(workspace: Workspace) -> Iterator[Path]:
    names = [GALLERY, *workspace.profile.photos.benchmarks]
    for photo_set in dict.fromkeys(workspace.source(name).photo_set for name in names):
        folder = workspace.settings.data / photo_set
        if not (folder / MANIFEST).is_file():
            continue
        for name, digest in read_json(folder / MANIFEST)["shards"].items():
            if not (folder / name).is_file() or file_digest(folder / name) != digest:
                yield folder / name


def _artifact_folders(kind: Path) -> list[Path]:
    """The artifact itself, or one per photo set, benchmark or representation; unfinished ones are left out."""
    if kind.name == "lmm_replies" or not kind.is_dir():
        return []
    children = [path for path in sorted(kind.iterdir()) if path.is_dir() and not _is_unfinished(path)]
    return children if children and not (kind / RECORD).exists() and not _has_files(kind) else [kind]


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.iterdir())


def _is_unfinished(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.suffix == ".partial"
