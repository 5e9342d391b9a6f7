"""Photo sets in DVC: builds or pulls them, and reads their versions (DVC hashes)."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint, one_line

# DVC reports an unreachable remote only in the text of its message, or not at all: then `_remote_answers` finds out.
OUTSIDE = re.compile(
    r"connection|(could not|cannot) connect|connect call failed|timed? ?out|unreachable|name resolution", re.IGNORECASE
)
NOT_FOUND = "error.dvc.org/missing-files"
PORTS = {"http": 80, "https": 443, "webdav": 80, "webdavs": 443, "ssh": 22}
NOISE = re.compile(r"WARNING|Everything is up to date|\s*\d+ ")  # the last are lines of the faulty file
# DVC warns about every stage that has no stored result yet, and announces each pull before it fails.
CHATTER = re.compile(r"WARNING: Some of the cache files|.*\bmd5: |Unable to pull data|Pulling data|Use `dvc push`")
LONGEST_FAULT = 600


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
    record = home / "data" / f"{name}.dvc"
    added = _yaml(record).get("outs")
    if added:
        try:
            return str(added[0]["md5"])
        except (TypeError, KeyError, IndexError):
            raise InputError(
                f"{record} has no entry outs[0].md5: restore it from git, or run `dvc add data/{name}`"
            ) from None
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
    """The content of a DVC file; empty if the file does not exist. Raises InputError if it is not a YAML mapping."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    conflict = re.search(r"^(<{7}|>{7})", text, re.MULTILINE)
    if conflict:
        line = text.count("\n", 0, conflict.start()) + 1
        raise InputError(f"{path}, line {line}: unresolved merge conflict: keep one side, and delete the markers")
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML ({one_line(error)}): correct it, or restore it from git") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a YAML mapping: correct it, or restore it from git")
    return content


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
            if say is not None and lines[-1] and not CHATTER.match(lines[-1]):
                say(lines[-1])
        if process.wait() != 0:
            warnings.seek(0)
            raise _failure(arguments, [*lines, *warnings.read().splitlines()], home=home)
    return "\n".join(lines)


def _failure(arguments: tuple[str, ...], output: list[str], *, home: Path) -> Exception:
    """The error for a failed command: DvcBusyError, ConnectionError for an outage, InputError for any other cause."""
    user_errors = [line for line in output if line.startswith("dualgeo:")]
    start = next((number for number, line in enumerate(output) if line.startswith("ERROR")), None)
    faults = [*user_errors, *(line for line in output[start or 0 :] if line not in user_errors)]
    hints = [line for line in output[:start] if line.startswith("No remote")] if start else []
    said = " ".join(" ".join(line.split()) for line in [*faults, *hints] if line.strip() and not NOISE.match(line))
    fault = f"dvc {' '.join(arguments)} failed: {said[:LONGEST_FAULT]}"
    if "Unable to acquire lock" in fault:
        return DvcBusyError(fault)
    if user_errors:
        return InputError(fault)
    if start is not None and OUTSIDE.search(said):
        return ConnectionError(fault)
    if NOT_FOUND in said:
        refusing = _refusing_remote(home)
        if refusing is not None:
            return ConnectionError(f"the DVC remote {refusing} does not answer; {fault}")
    return InputError(fault)


def _refusing_remote(home: Path) -> str | None:
    """The host and port of a remote of this repository that refuses connections; None if there is none.

    DVC does not tell a remote that is away from one that lacks a file.
    """
    command = [sys.executable, "-m", "dvc", "config", "--list"]
    settings = subprocess.run(command, cwd=home, capture_output=True, text=True).stdout
    for url in re.findall(r"^remote\..*\.url=(.*)$", settings, re.MULTILINE):
        address = urlsplit(url)
        port = address.port or PORTS.get(address.scheme)
        if address.hostname is None or port is None or address.scheme not in PORTS:
            continue
        try:
            socket.create_connection((address.hostname, port), timeout=10).close()
        except OSError:
            return f"{address.hostname}:{port}"
    return None
