"""`dualgeo ui` with several profiles: Dagster's page shows each as a code location of its own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY_PROFILE, Home
from service_processes import Service, Webserver, free_port

from dualgeo_dagster.commands.ui import write_workspace_file

LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
  ... on PythonError { message }
  ... on RepositoryLocation { repositories { jobs { name } sensors { name } assetNodes { assetKey { path } } } }
} } } } }"""


@pytest.fixture
def pages(tmp_path: Path, new_home: Callable[[Path], Home]) -> Iterator[Webserver]:
    home = new_home(tmp_path / "home")
    (home.path / "profiles" / "other.yaml").write_text(TINY_PROFILE)
    ports = {"dagster": free_port(), "mlflow": free_port()}
    profiles = ("--profile", "tiny", "--profile", "other")
    servers = Service(
        *(sys.executable, "-m", "dualgeo_core.cli", "ui", *profiles),
        *(f"--{name}-port={port}" for name, port in ports.items()),
        log=tmp_path / "ui.log",
        environment=home.environment,
        cwd=home.path,
    )
    try:
        webserver = Webserver(f"http://127.0.0.1:{ports['dagster']}")
        servers.wait_until_up(webserver.info)
        servers.wait_until_up(f"http://127.0.0.1:{ports['mlflow']}/health")
        yield webserver
    finally:
        servers.stop()


def test_each_profile_is_a_code_location_with_its_own_names(pages: Webserver) -> None:
    entries = pages.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
    assert sorted(entry["name"] for entry in entries) == ["other", "tiny"]
    for entry in entries:
        name, location = entry["name"], entry["locationOrLoadError"]
        [repository] = location["repositories"]
        assert f"{name}_everything" in {job["name"] for job in repository["jobs"]}
        assert {sensor["name"].startswith(f"{name}_") for sensor in repository["sensors"]} == {True}
        assert {node["assetKey"]["path"][0] for node in repository["assetNodes"]} == {name}


def test_the_workspace_file_of_production_names_the_profile_demo(tmp_path: Path) -> None:
    written = write_workspace_file(["demo"], tmp_path / "workspace.yaml")
    assert yaml.safe_load((ROOT / "workspace.yaml").read_text()) == yaml.safe_load(written.read_text())
