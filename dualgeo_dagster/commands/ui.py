"""Dagster's and MLflow's web servers on the loopback address, started and stopped together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from dualgeo_core.base.files import atomic_file
from dualgeo_core.settings import Environment, load_settings
from dualgeo_dagster.mlflow.store import local_store, without_password
from dualgeo_dagster.runtime.instance import ensure_dagster_home
from dualgeo_dagster.settings import TrackingEnvironment, keep_libraries_quiet, orchestration_of

HOST = "127.0.0.1"


def show_pages(profiles: Sequence[str] | None, *, dagster_port: int, mlflow_port: int) -> None:
    """Serves both web pages until Ctrl-C or until one server ends. Raises InputError if a profile is invalid."""
    keep_libraries_quiet()
    environment, tracking = Environment(), TrackingEnvironment()
    names = list(profiles or [environment.profile])
    for name in names:
        orchestration_of(load_settings(name).profile)
    workspace_file = write_workspace_file(names, ensure_dagster_home(environment.home) / "workspace.yaml")
    commands = {"Dagster": _dagster(dagster_port, workspace_file)}
    addresses = {"Dagster": f"http://{HOST}:{dagster_port}"}
    if tracking.tracking_uri:
        addresses["MLflow"] = without_password(tracking.tracking_uri)
    else:
        addresses["MLflow"] = f"http://{HOST}:{mlflow_port}"
        commands["MLflow"] = _mlflow(mlflow_port, home=environment.home)
    os.environ.setdefault("DUALGEO_MLFLOW_UI", addresses["MLflow"])
    servers = {name: subprocess.Popen(command, start_new_session=True) for name, command in commands.items()}
    for name, address in addresses.items():
        print(f"{name:8} {address}", flush=True)
    print("Press Ctrl-C to stop.", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        _stop(servers)


def write_workspace_file(profiles: Sequence[str], path: Path) -> Path:
    """Writes a Dagster workspace file with one code location per profile; returns its path."""
    locations = [
        {"python_module": {"module_name": "dualgeo_dagster.locations", "attribute": name, "location_name": name}}
        for name in profiles
    ]
    with atomic_file(path) as temporary:
        temporary.write_text(yaml.safe_dump({"load_from": locations}), encoding="utf-8")
    return path


def _dagster(port: int, workspace_file: Path) -> list[str]:
    return [sys.executable, "-m", "dagster", "dev", "-w", str(workspace_file), "-h", HOST, "-p", str(port)]


def _mlflow(port: int, home: Path) -> list[str]:
    store = local_store(home)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", store.tracking_uri, "--default-artifact-root", str(store.artifact_location)),
    ]


def _stop(servers: dict[str, subprocess.Popen[bytes]]) -> None:
    for server in servers.values():
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
    for name, server in servers.items():
        try:
            code = server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            code = server.wait()
        print(f"{name} stopped (exit code {code}).", flush=True)
