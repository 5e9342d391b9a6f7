"""Checks every byte of a workspace against its records, and removes what is damaged so that steps make it again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dualgeo_core.base.artifacts import RECORD, Record, damaged_files, digest_files, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, read_json
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.photo_set import MANIFEST, QUARANTINE
from dualgeo_core.pipeline.workspace import GALLERY, ONE_PER_PROFILE, Workspace
from dualgeo_core.refine.lmm.cache import damaged_replies
from dualgeo_core.views.store import views_fingerprint


@dataclass(frozen=True)
class Damage:
    """A file that is missing or does not hold the recorded bytes, and the artifacts made from it by kind/name.

    A step makes it again unless it belongs to a photo set, which has to be restored.
    """

    path: Path
    dependents: tuple[str, ...]
    is_photo_set: bool = False


def verify(workspace: Workspace, progress: Progress = silent) -> list[Damage]:
    """Every damaged file of the profile's photo sets and artifacts. Reads every byte."""
    lineage = _Lineage.of(workspace)
    found = list(_damaged_photos(workspace, lineage))
    folders = _artifact_folders(workspace)
    for done, (name, folder) in enumerate(folders.items(), start=1):
        record = read_record(folder)
        paths = [folder / RECORD] if record is None else damaged_files(folder, record)
        found += [Damage(path, lineage.made_from({lineage.contents[name]})) for path in paths]
        progress("verify", done, len(folders))
    return found + [Damage(path, ()) for path in damaged_replies(workspace.lmm_replies)]


def remove_damaged(damages: list[Damage]) -> list[Damage]:
    """Removes damaged files that a step makes again, so that the next run does. Returns those that remain."""
    for damage in damages:
        if not damage.is_photo_set:
            damage.path.unlink(missing_ok=True)
    return [damage for damage in damages if damage.is_photo_set]


@dataclass(frozen=True)
class _Lineage:
    """By kind/name: the content of each artifact, and of what it was made from."""

    contents: dict[str, str]
    inputs: dict[str, set[str]]
    photos: dict[str, set[str]]  # by name of the photo set: the content that its views were made from

    @classmethod
    def of(cls, workspace: Workspace) -> "_Lineage":
        records = {name: _record(folder) for name, folder in _artifact_folders(workspace).items()}
        contents = {name: record.content for name, record in records.items()}
        inputs = {name: set(record.inputs.values()) for name, record in records.items()}
        photos: dict[str, set[str]] = {}
        for name, features in records.items():
            kind, _, photos_name = name.partition("/")
            if "photos" in features.inputs and photos_name:
                photos.setdefault(photos_name, set()).add(features.inputs["photos"])
            label_maps = records.get(f"label_maps/{photos_name}")
            if kind == "features" and label_maps is not None:  # steps name both views of a set as one input
                contents[f"views/{photos_name}"] = views_fingerprint(features, label_maps)
                inputs[f"views/{photos_name}"] = {features.content, label_maps.content}
        return cls(contents, inputs, photos)

    def made_from(self, contents: set[str]) -> tuple[str, ...]:
        """The artifacts made from any of these contents, directly or through others."""
        found: set[str] = set()
        while new := {name for name, inputs in self.inputs.items() if inputs & contents} - found:
            found |= new
            contents = {self.contents[name] for name in new}
        return tuple(sorted(name for name in found if not name.startswith("views/")))


def _record(folder: Path) -> Record:
    """The folder's record. Without one, the digests of the files as they are now stand for it."""
    return read_record(folder) or Record(recipe="", inputs={}, files=digest_files(folder))


def _damaged_photos(workspace: Workspace, lineage: _Lineage) -> Iterator[Damage]:
    """The damaged files of each photo set. A set that is gone is damaged if anything was made from it."""
    names_of: dict[Path, list[str]] = {}
    for name in (GALLERY, *workspace.profile.photos.benchmarks):
        names_of.setdefault(workspace.settings.data / workspace.source(name).photo_set, []).append(name)
    for folder, names in names_of.items():
        dependents = lineage.made_from(set().union(*(lineage.photos.get(name, set()) for name in names)))
        if folder.exists() or dependents:
            for path in _damaged_files_of_set(folder):
                yield Damage(path, dependents, is_photo_set=True)


def _damaged_files_of_set(folder: Path) -> Iterator[Path]:
    try:
        shards = dict(read_json(folder / MANIFEST)["shards"])
    except (InputError, KeyError, TypeError, ValueError):
        yield folder / MANIFEST
        return
    if not (folder / QUARANTINE).is_file():
        yield folder / QUARANTINE
    for shard, digest in shards.items():
        if not (folder / shard).is_file() or file_digest(folder / shard) != digest:
            yield folder / shard


def _artifact_folders(workspace: Workspace) -> dict[str, Path]:
    """Every finished artifact by kind/name, or by kind if a profile has one of it."""
    found: dict[str, Path] = {}
    root = workspace.settings.artifacts
    for kind in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        children = [path for path in sorted(kind.iterdir()) if path.is_dir() and not _is_unfinished(path)]
        if kind == workspace.lmm_replies or _is_unfinished(kind):
            continue
        if kind.name in ONE_PER_PROFILE:
            found[kind.name] = kind
        else:
            found |= {f"{kind.name}/{path.name}": path for path in children}
    return found


def _is_unfinished(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.suffix == ".partial"
