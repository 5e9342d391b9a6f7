"""Files and folders that are whole or absent, fingerprints, and one line for what cannot be read."""

import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from dualgeo_core.base.errors import InputError

_UMASK = os.umask(0)  # it can only be read by setting it
os.umask(_UMASK)
FULL = (errno.ENOSPC, errno.EDQUOT)
# Temporary names of unfinished files and folders, which a killed process leaves behind.
# Several machines may share a folder, so the name has the machine, too.
UNFINISHED = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)\.(tmp|old)(\.\w+)?")
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def fingerprint(*parts: Any) -> str:
    """16 hex digits that identify the JSON-serialisable parts. They are the same on every machine."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The first 16 hex digits of the file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def unfinished(path: Path, ending: str) -> Path:
    """The temporary name that this process gives to `path` while it is written (tmp) or replaced (old)."""
    return path.with_name(f".{path.name}.{_MACHINE}-{os.getpid()}.{ending}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to. It becomes `path` if the block succeeds and is deleted if the block raises."""
    temporary = unfinished(path, f"tmp{path.suffix}")
    with _as_input_error(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    try:
        with _as_input_error(path, temporary):
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)  # some writers make files that only their owner can read
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill. It replaces `path` if the block succeeds and is deleted if the block raises."""
    temporary = unfinished(path, "tmp")
    with _as_input_error(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    try:
        with _as_input_error(path, temporary):
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
            continue
        if file.is_file():
            file.chmod(0o666 & ~_UMASK)
        _fsync(file)
    retired = unfinished(target, "old")
    if target.exists():
        target.replace(retired)
    source.replace(target)
    _fsync(target.parent)
    shutil.rmtree(retired, ignore_errors=True)


@contextmanager
def one_builder(path: Path) -> Iterator[None]:
    """Lets one process at a time into the block for the same `path`; the others wait. A killed process lets go."""
    lock = path.with_name(f".{path.name}.lock")
    with _as_input_error(path, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        try:
            held.acquire(blocking=False)
        except Timeout:
            logging.getLogger(__name__).warning("another process builds %s; waiting for it", path)
            held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def reading(path: Path, *, remedy: str) -> Iterator[None]:
    """Turns what a reader raises on a missing or damaged file into one line: the file, its fault, and the `remedy`."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {remedy}") from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({one_line(error)}): {remedy}") from None


def one_line(error: BaseException, length: int = 160) -> str:
    """An error's message without line breaks, cut to `length`; its type if it has no message."""
    return " ".join(str(error).split())[:length] or type(error).__name__


@contextmanager
def _as_input_error(path: Path, temporary: Path) -> Iterator[None]:
    """A full disk, a read-only folder or a missing permission as one line that names the file.

    That file is `path`, or another one that the block reads.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (*FULL, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        reason = os.strerror(error.errno)
        other = isinstance(error.filename, str) and not _belongs(Path(error.filename), path, temporary)
        file = error.filename if other else path
        if error.errno in FULL:
            raise InputError(f"{file} cannot be written ({reason}): free space, or name another place") from None
        if other:
            raise InputError(f"{file} cannot be used ({reason}): correct its permissions") from None
        remedy = "correct the permissions of its folder, or name another place"
        raise InputError(f"{file} cannot be written ({reason}): {remedy}") from None


def _belongs(file: Path, path: Path, temporary: Path) -> bool:
    """Whether a file is the target `path`, its temporary version, a part of one of them, or a folder around them."""
    return file.is_relative_to(path) or file.is_relative_to(temporary) or path.is_relative_to(file)


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
    """The file's content. Raises InputError if the file is missing, cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run the step that writes it, or correct the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): correct the path or its permissions") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): delete it and run the step that writes it") from None


@cache
def _remove_leftovers(folder: Path) -> None:
    """Removes unfinished files of this machine's dead processes. Cached, because listing a large folder is slow."""
    for file in folder.iterdir():
        found = UNFINISHED.fullmatch(file.name)
        if found and found["machine"] == _MACHINE and not psutil.pid_exists(int(found["pid"])):
            shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
