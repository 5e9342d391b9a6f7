"""Photo sets as DVC knows them: how bytes become a set, and the hash that is its version."""

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

# DVC tells a remote that cannot be reached from a mistake only in words.
OUTSIDE = re.compile(r"connection|could not connect|timed? ?out|unreachable|name resolution", re.IGNORECASE)


class DvcBusyError(InputError):
    """Another DVC command is at work in the same repository."""


def build_photo_set(name: str, *, home: Path, say: Callable[[str], None]) -> str:
    """Brings `data/<name>` up to date and returns its DVC hash.

    A stage is reproduced (pulled where a remote has its result); a set added with `dvc add` is pulled where absent.
    Raises InputError where DVC knows no such set or cannot make it, ConnectionError where its remote does not answer.
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
            f"data/{name} is not the version DVC recorded: `dvc add data/{name}` keeps it, `dvc checkout` undoes it"
        )
    return recorded


def photo_set_hash(name: str, *, home: Path) -> str:
    """The DVC hash of `data/<name>`; raises InputError where DVC does not track it."""
    stage = _yaml(home / "dvc.lock").get("stages", {}).get(name)
    if stage:
        return str(stage["outs"][0]["md5"])
    added = _yaml(home / "data" / f"{name}.dvc").get("outs")
    if added:
        return str(added[0]["md5"])
    raise InputError(f"DVC does not track data/{name}: make it with `dualgeo ingest`, then `dvc add data/{name}`")


def recorded_versions(names: Iterable[str], *, home: Path, wait: bool = True) -> dict[str, str]:
    """What decides whether each `data/<name>` must be made: its hash, and how its stage differs from what was made.

    Where another DVC command is at work, waits or raises DvcBusyError.
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
    """Runs dvc in `home`, telling its lines as they come; raises InputError with its last line where it fails.

    DVC does one thing at a time: `wait` until its lock is free, or raise DvcBusyError.
    """
    # The stages call `dualgeo`, which lives beside this interpreter and need not be on the caller's PATH.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    # What dvc warns of goes to stderr; where its output is read, the two must not mix.
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
            told = [*lines, *warnings.read().splitlines()]
            faults = [line for line in told if line.startswith(("ERROR", "dualgeo:"))] or told[-1:]
            fault = f"dvc {' '.join(arguments)} failed: {'; '.join(faults)}"
            if "Unable to acquire lock" in fault:
                raise DvcBusyError(fault)
            unreachable = any(line.startswith("ERROR") and OUTSIDE.search(line) for line in told)
            mistaken = any(line.startswith("dualgeo:") for line in told)
            raise ConnectionError(fault) if unreachable and not mistaken else InputError(fault)
    return "\n".join(lines)
