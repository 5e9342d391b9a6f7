"""Artifacts and their records: what made an artifact, and the size and digest of each of its files.

An artifact is a folder with a record, a small JSON file. It is current if the record states the recipe and the inputs
that the artifact should have now, and every file has its recorded size. An input is identified by its content, so the
chain from an answer to the photos is one of bytes, not of settings.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dualgeo_core.base.digests import FileDigest, digest_file, is_intact, size_of
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_folder, fingerprint, read_json, write_json
from dualgeo_core.base.stamps import damaged_files_since

RECORD = "record.json"


@dataclass(frozen=True)
class Record:
    """What made an artifact, the digest of each file by its path in the folder, and facts worth reading."""

    recipe: str
    inputs: dict[str, str]
    files: dict[str, FileDigest]
    facts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def content(self) -> str:
        """Fingerprint of every byte of the artifact."""
        return fingerprint({name: digest.sha256 for name, digest in self.files.items()})


@dataclass(frozen=True)
class Artifact:
    """An artifact as it should be now: its folder, the step that makes it, the recipe, its inputs' content by name."""

    path: Path
    step: str
    recipe: str
    inputs: Mapping[str, str]

    def is_current(self) -> bool:
        """Whether this recipe made the artifact from these inputs, and all its files have their recorded sizes."""
        return self._fault(read_record(self.path)) is None

    def require(self) -> Record:
        """The record of the artifact. Raises InputError, naming fault and step, if the artifact is not current."""
        record = read_record(self.path)
        fault = self._fault(record)
        if record is None or fault:
            raise InputError(f"{self.path} {fault}: run the step {self.step} again")
        return record

    def require_intact(self) -> Record:
        """As `require`. Also reads every file that changed since the last time, and names the first damaged one."""
        record = self.require()
        for path in damaged_files_since(self.path, record.files):
            raise InputError(f"{path} is damaged: delete it and run the step {self.step} again")
        return record

    def _fault(self, record: Record | None) -> str | None:
        if record is None:
            return "is missing or unfinished"
        changed = [name for name, content in self.inputs.items() if record.inputs.get(name) != content]
        if record.recipe != self.recipe:
            changed.insert(0, "settings")
        if changed:
            return f"was made from other {', '.join(changed)} than there are now"
        incomplete = incomplete_files(self.path, record)
        return f"is incomplete ({incomplete[0].name} is missing or was cut)" if incomplete else None


@contextmanager
def new_artifact(artifact: Artifact, facts: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """A temporary folder to fill. If the block succeeds, the folder gets its record and replaces the artifact."""
    with atomic_folder(artifact.path) as folder:
        yield folder
        write_record(folder, artifact, digest_files(folder), facts or {})


def write_record(folder: Path, artifact: Artifact, files: Mapping[str, FileDigest], facts: Mapping[str, Any]) -> Record:
    """Writes the artifact's record into `folder`, where its files are, and returns it."""
    record = Record(recipe=artifact.recipe, inputs=dict(artifact.inputs), files=dict(files), facts=dict(facts))
    write_json(folder / RECORD, asdict(record))
    return record


def read_record(folder: Path) -> Record | None:
    """The folder's record; None if there is none, or one that is not whole."""
    if not (folder / RECORD).is_file():
        return None
    try:
        content = read_json(folder / RECORD)
        files = {name: FileDigest(**digest) for name, digest in content.pop("files").items()}
        record = Record(files=files, **content)
    except (InputError, TypeError, KeyError, AttributeError):
        return None
    return record if isinstance(record.inputs, dict) and isinstance(record.facts, dict) else None


def digest_files(folder: Path) -> dict[str, FileDigest]:
    """The digest of every file in a folder except its record, by path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD)
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def incomplete_files(folder: Path, record: Record) -> list[Path]:
    """The recorded files that are missing or have another size."""
    return [folder / name for name, digest in record.files.items() if size_of(folder / name) != digest.size]


def damaged_files(folder: Path, record: Record) -> list[Path]:
    """The recorded files that are missing or hold other bytes. Reads all of them."""
    return [folder / name for name, digest in record.files.items() if not is_intact(folder / name, digest)]
