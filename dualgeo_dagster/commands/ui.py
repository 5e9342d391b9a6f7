"""Dagster's and MLflow's web servers on the loopback address, started and stopped together."""

import json
import os
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import yaml

from dualgeo_core.base.files import atomic_file
from dualgeo_core.settings import Environment, load_settings
from dualgeo_dagster.mlflow.links import experiment_page
from dualgeo_dagster.mlflow.store import local_store, outages_as_input_errors, require_database, without_password
from dualgeo_dagster.runtime.instance import begin_retries, ensure_dagster_home
from dualgeo_dagster.runtime.supervision import Server, require_free_ports, serve
from dualgeo_dagster.settings import TrackingEnvironment, keep_libraries_quiet, orchestration_of

HOST = "127.0.0.1"
# Dagster warns about functions that it will replace or that are in beta; a user cannot act on that.
LEVEL = ("--log-level", "warning")
QUIET = "ignore:Function `,ignore:Parameter `,ignore:Class `,ignore:starlette"


def show_pages(profiles: Sequence[str] | None, *, dagster_port: int, mlflow_port: int) -> int:
    """Serves both web pages until Ctrl-C. Returns the exit code: 1 if a server did not start or was given up.

    Raises InputError if a profile is invalid or a port is in use; nothing has been started then.
    """
    keep_libraries_quiet()
    environment, tracking = Environment(), TrackingEnvironment()
    names = list(profiles or [environment.profile])
    for name in names:
        orchestration_of(load_settings(name).profile)
    ports = {"--dagster-port": dagster_port}
    if not tracking.tracking_uri:
        ports["--mlflow-port"] = mlflow_port
    require_free_ports(ports, HOST)
    workspace_file = write_workspace_file(names, ensure_dagster_home(environment.home) / "workspace.yaml")
    begin_retries()
    dagster_address = f"http://{HOST}:{dagster_port}"
    servers = [Server("Dagster", _dagster(dagster_port, workspace_file), dagster_address, page=lambda: dagster_address)]
    if tracking.tracking_uri:
        mlflow_address = without_password(tracking.tracking_uri)
        print(f"{'MLflow':8} {mlflow_address}", flush=True)
    else:
        mlflow_address = f"http://{HOST}:{mlflow_port}"
        command = _mlflow(mlflow_port, home=environment.home)
        servers.append(
            Server("MLflow", command, mlflow_address, page=lambda: _experiment_page(mlflow_address, names[0]))
        )
    os.environ.setdefault("DUALGEO_MLFLOW_UI", mlflow_address)
    print(f"{'Photos':8} dualgeo serve --profile {names[0]} (a page to drop photos on)", flush=True)
    os.environ.setdefault("DUALGEO_DAGSTER_UI", dagster_address)
    os.environ.setdefault("PYTHONWARNINGS", QUIET)
    return serve(servers)


def _experiment_page(server: str, profile: str) -> str:
    """The page with the runs of a profile; the server's address if the profile has no run yet."""
    query = f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=dualgeo-{profile}"
    try:
        with urllib.request.urlopen(query, timeout=10) as response:
            return experiment_page(server, json.loads(response.read())["experiment"]["experiment_id"])
    except OSError:
        return server


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
    return [sys.executable, "-m", "dagster", "dev", "-w", str(workspace_file), "-h", HOST, "-p", str(port), *LEVEL]


def _mlflow(port: int, home: Path) -> list[str]:
    with outages_as_input_errors():
        store = local_store(home)
    require_database(home)
    command = (sys.executable, "-m", "dualgeo_dagster.mlflow.server", "--host", HOST, "--port", str(port))
    return [*command, "--store", store.tracking_uri, "--artifacts", str(store.artifact_location)]
