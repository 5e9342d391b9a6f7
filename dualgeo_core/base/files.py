"""Files and folders that appear whole or not at all, and fingerprints that identify the inputs of a result."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from dualgeo_core.base.errors import InputError

FINGERPRINT_FILE = "fingerprint.json"
# Temporary names of unfinished files and folders, which a killed process leaves behind.
UNFINISHED = re.compile(r"\..+\.(?P<pid>\d+)\.(tmp|old)(\.\w+)?")


def fingerprint(*parts: Any) -> str:
    """16 hex digits that identify the JSON-serialisable parts. They are the same on every machine."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The first 16 hex digits of the file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to. It becomes `path` if the block succeeds and is deleted if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill. It replaces `path` if the block succeeds and is deleted if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Replaces `target` by the finished folder `source` and syncs it to disk.

    Unfinished files of killed writers in `source` are deleted first.
    """
    _remove_leftovers(target.parent)
    for file in source.rglob("*"):
        if UNFINISHED.fullmatch(file.name):
            file.unlink()
        else:
            _fsync(file)
    retired = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.replace(retired)
    source.replace(target)
    _fsync(target.parent)
    shutil.rmtree(retired, ignore_errors=True)


def take_over(source: Path, target: Path) -> None:
    """Makes `source` available at `target`, as a hard link if possible and otherwise as a copy.

    Use it only for files that are never modified.
    """
    with atomic_file(target) as temporary:
        try:
            os.link(source.resolve(), temporary)
        except OSError:  # another file system, or a file system without hard links
            shutil.copyfile(source, temporary)


def write_json(path: Path, content: Any) -> None:
    """Writes indented, key-sorted JSON atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The file's content. Raises InputError if the file is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the step that writes it, or correct the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}): delete it and run the step that writes it") from None


def write_fingerprint(folder: Path, value: str, **facts: Any) -> None:
    """Signs a folder with the fingerprint of its inputs. `facts` are stored next to the fingerprint."""
    write_json(folder / FINGERPRINT_FILE, {"fingerprint": value, **facts})


def read_fingerprint(folder: Path) -> str | None:
    """The folder's fingerprint, or None if the folder was never finished."""
    if not (folder / FINGERPRINT_FILE).is_file():
        return None
    return str(read_json(folder / FINGERPRINT_FILE)["fingerprint"])


def require_fingerprint(folder: Path, *, expected: str, step: str) -> None:
    """Raises InputError, naming both fingerprints and the `step` to run, if the folder was made from other inputs."""
    found = read_fingerprint(folder)
    if found != expected:
        raise InputError(
            f"{folder} was made from other inputs (fingerprint {found or 'missing'}, expected {expected}): "
            f"run the step {step} again"
        )


@cache
def _remove_leftovers(folder: Path) -> None:
    """Removes unfinished files of dead processes. Cached, because listing a folder with many files is slow."""
    for file in folder.iterdir():
        found = UNFINISHED.fullmatch(file.name)
        if found and not psutil.pid_exists(int(found["pid"])):
            shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
