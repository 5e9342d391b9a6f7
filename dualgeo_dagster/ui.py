"""`python -m dualgeo_dagster.ui`: Dagster's and MLflow's web pages on loopback, begun and stopped together."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dualgeo_core.errors import InputError
from dualgeo_core.settings import Environment, keep_libraries_quiet, load_settings
from dualgeo_dagster.instance_home import ensure_dagster_home
from dualgeo_dagster.tracking_store import local_store, without_password

HOST = "127.0.0.1"


def main() -> None:
    """Shows both UIs until Ctrl-C, or until one of them ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dagster-port", type=int, default=3000)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    options = parser.parse_args()
    keep_libraries_quiet()
    try:
        load_settings()
    except InputError as error:
        print(f"dualgeo: {error}", file=sys.stderr)
        sys.exit(2)
    environment = Environment()
    ensure_dagster_home(environment.home)
    commands = {"Dagster": _dagster(options.dagster_port)}
    addresses = {"Dagster": f"http://{HOST}:{options.dagster_port}"}
    if environment.mlflow_tracking_uri:
        addresses["MLflow"] = without_password(environment.mlflow_tracking_uri)
    else:
        addresses["MLflow"] = f"http://{HOST}:{options.mlflow_port}"
        commands["MLflow"] = _mlflow(options.mlflow_port, home=environment.home)
    os.environ.setdefault("DUALGEO_MLFLOW_UI", addresses["MLflow"])
    servers = {name: subprocess.Popen(command, start_new_session=True) for name, command in commands.items()}
    for name, address in addresses.items():
        print(f"{name:8} {address}", flush=True)
    print("Ctrl-C stops both.", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        _stop(servers)


def _dagster(port: int) -> list[str]:
    return [sys.executable, "-m", "dagster", "dev", "-m", "dualgeo_dagster.definitions", "-h", HOST, "-p", str(port)]


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
        print(f"{name} stopped ({code}).", flush=True)


if __name__ == "__main__":
    main()
