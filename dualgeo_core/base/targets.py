"""Checks of the paths that a command will write, made before its work."""

import os
import tempfile
from pathlib import Path

from dualgeo_core.base.errors import InputError


def check_file_target(path: Path) -> None:
    """Raises InputError if no regular file can be written at `path`."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file to write")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device, a pipe or a socket; name a regular file to write")
    _check_parent(path)


def check_folder_target(path: Path) -> None:
    """Raises InputError if no folder can be written at `path`."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} exists and is not a folder; name another folder to write")
    _check_parent(path)


def _check_parent(path: Path) -> None:
    """Raises InputError if nothing can be created next to `path`. Permissions do not tell: root has all of them."""
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written ({parent}: {error.strerror}); name another place") from None
