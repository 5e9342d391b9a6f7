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
    lock, stage = home / "dvc.lock", _stage_of(name, home)
    made = _stages(lock)
    if stage in made:
        return _recorded_hash(name, made[stage], f"{lock}, stage {stage},", remedy=f"run `dvc repro {stage}`")
    record = home / "data" / f"{name}.dvc"
    added = _yaml(record)
    if added.get("outs"):
        return _recorded_hash(name, added, str(record), remedy=f"run `dvc add data/{name}`")
    raise InputError(f"DVC does not track data/{name}: create it with `dualgeo ingest`, then run `dvc add data/{name}`")


def _recorded_hash(name: str, record: Any, where: str, remedy: str) -> str:
    """The hash in a stage of dvc.lock or in a `.dvc` file. A stage may write several sets."""
    try:
        outs = record["outs"]
        own = [out for out in outs if out.get("path") == f"data/{name}"]
        return str((own or outs)[0]["md5"])
    except (AttributeError, TypeError, KeyError, IndexError):
        raise InputError(f"{where} has no entry outs[0].md5: restore it from git, or {remedy}") from None


def recorded_versions(names: Iterable[str], *, home: Path, wait: bool = True) -> dict[str, str]:
    """A version string for each `data/<name>`, which changes with its DVC hash and with the status of its stage.

    If another DVC command is running, waits for it (`wait`) or raises DvcBusyError.
    """
    stages = {name: _stage_of(name, home) for name in names}
    in_use = sorted({stage for stage in stages.values() if stage})
    status = json.loads(_dvc("status", "--json", *in_use, home=home, say=None, wait=wait)) if in_use else {}
    made = _stages(home / "dvc.lock")
    return {
        name: fingerprint(
            photo_set_hash(name, home=home) if stage is None or stage in made else None, status.get(stage)
        )
        for name, stage in stages.items()
    }


def _stage_of(name: str, home: Path) -> str | None:
    """The stage of dvc.yaml that has the set's name or writes `data/<name>`; None if there is none."""
    stages = _stages(home / "dvc.yaml")
    if name in stages:
        return name
    return next((stage for stage, content in stages.items() if f"data/{name}" in _outs(content)), None)


def _outs(stage: Any) -> list[str]:
    """The paths that a stage of dvc.yaml writes. DVC writes an output with options as a mapping."""
    outs = stage.get("outs") if isinstance(stage, dict) else None
    if not isinstance(outs, list):
        return []
    return [path for out in outs for path in (out if isinstance(out, dict) else [out])]


def _stages(path: Path) -> dict[str, Any]:
    """The stages of dvc.yaml or dvc.lock; empty if there are none. Raises InputError if they are not a mapping."""
    stages = _yaml(path).get("stages") or {}
    if not isinstance(stages, dict):
        raise InputError(f"{path}: stages is not a YAML mapping: correct it, or restore it from git")
    return stages


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
    if start is not None and OUTSIDE.search(_without_names(said, arguments)):
        return ConnectionError(fault)
    if NOT_FOUND in said:
        refusing = _refusing_remote(home)
        if refusing is not None:
            return ConnectionError(f"the DVC remote {refusing} does not answer; {fault}")
    return InputError(fault)


def _without_names(said: str, arguments: Iterable[str]) -> str:
    """DVC's message without stages and paths, because a photo set may be called `connections`."""
    names = "|".join(re.escape(argument) for argument in arguments)
    return re.sub(rf"(?<![\w-])({names})(?![\w-])|\S*/\S*", "", said)


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
