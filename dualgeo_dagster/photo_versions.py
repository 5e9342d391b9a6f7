"""Photo sets in DVC: builds or pulls them, and reads their versions (DVC hashes)."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint

# DVC reports an unreachable remote only in the text of its message.
OUTSIDE = re.compile(r"connection|could not connect|timed? ?out|unreachable|name resolution", re.IGNORECASE)


class DvcBusyError(InputError):
    """Another DVC command is running in the same repository."""


def build_photo_set(name: str, *, home: Path, say: Callable[[str], None]) -> str:
    """Brings `data/<name>` up to date and returns its DVC hash.

    A DVC stage is reproduced, or pulled if a remote has its result. A set added with `dvc add` is pulled if it is
    missing. Raises InputError if DVC does not track the set, cannot build it, or if its files have changed;
    ConnectionError if the remote does not answer.
    """
    stage = _stage_of(name, home)
    if stage is not None:
        _dvc("repro", "--pull", stage, home=home, say=say)
        return photo_set_hash(name, home=home)
    recorded = photo_set_hash(name, home=home)
    if not (home / "data" / name).is_dir():
        _dvc("pull", f"data/{name}.dvc", home=home, say=say)
    elif _dvc("status", f"data/{name}.dvc", "--json", home=home, say=None).strip() != "{}":
        raise InputError(
            f"data/{name} differs from the version recorded by DVC: run `dvc add data/{name}` to keep the changes "
            f"or `dvc checkout data/{name}` to undo them"
        )
    return recorded


def photo_set_hash(name: str, *, home: Path) -> str:
    """The DVC hash of `data/<name>`. Raises InputError if DVC does not track it."""
    stage = _yaml(home / "dvc.lock").get("stages", {}).get(name)
    if stage:
        return str(stage["outs"][0]["md5"])
    added = _yaml(home / "data" / f"{name}.dvc").get("outs")
    if added:
        return str(added[0]["md5"])
    raise InputError(f"DVC does not track data/{name}: create it with `dualgeo ingest`, then run `dvc add data/{name}`")


def recorded_versions(names: Iterable[str], *, home: Path, wait: bool = True) -> dict[str, str]:
    """A version string for each `data/<name>`, which changes with its DVC hash and with the status of its stage.

    If another DVC command is running, waits for it (`wait`) or raises DvcBusyError.
    """
    names = set(names)
    stages = sorted(name for name in names if _stage_of(name, home))
    status = json.loads(_dvc("status", "--json", *stages, home=home, say=None, wait=wait)) if stages else {}
    made = _yaml(home / "dvc.lock").get("stages", {})
    return {
        name: fingerprint(
            photo_set_hash(name, home=home) if name in made or name not in stages else None, status.get(name)
        )
        for name in names
    }


def _stage_of(name: str, home: Path) -> str | None:
    return name if name in _yaml(home / "dvc.yaml").get("stages", {}) else None


def _yaml(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def _dvc(*arguments: str, home: Path, say: Callable[[str], None] | None, wait: bool = True) -> str:
    """Runs dvc in `home`, passes its output lines to `say`, and returns the output.

    Raises ConnectionError if a remote does not answer, DvcBusyError if another DVC command holds the lock and not
    `wait`, and InputError with DVC's message for any other failure.
    """
    # The stages call `dualgeo`, which is in the folder of this interpreter and may be missing from PATH.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    # Warnings on stderr must not mix with output that is parsed.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as warnings:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *(["--wait-for-lock"] if wait else []), *arguments],
            cwd=home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if say is not None else warnings,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if say is not None and lines[-1]:
                say(lines[-1])
        if process.wait() != 0:
            warnings.seek(0)
            output = [*lines, *warnings.read().splitlines()]
            faults = [line for line in output if line.startswith(("ERROR", "dualgeo:"))] or output[-1:]
            fault = f"dvc {' '.join(arguments)} failed: {'; '.join(faults)}"
            if "Unable to acquire lock" in fault:
                raise DvcBusyError(fault)
            unreachable = any(line.startswith("ERROR") and OUTSIDE.search(line) for line in output)
            user_error = any(line.startswith("dualgeo:") for line in output)
            raise ConnectionError(fault) if unreachable and not user_error else InputError(fault)
    return "\n".join(lines)
