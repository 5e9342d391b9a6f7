"""A profile is a namespace: what one profile runs leaves another in the same home as it is."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import TINY_PROFILE, Home
from mlflow import MlflowClient

from dualgeo_dagster.mlflow.registered_model import CHAMPION
from dualgeo_dagster.mlflow.registry import Registry

# Nothing to train and one benchmark, for speed.
OTHER_PROFILE = TINY_PROFILE.replace("[encoder, joint]", "[encoder], main: encoder").replace(
    "    by_night: {photo_set: by_night}\n", ""
)


class Kept:
    """What Dagster, MLflow and the disk keep of each profile."""

    def __init__(self, home: Home) -> None:
        self._home, self._uri = home.path, f"sqlite:///{home.path}/.mlflow/mlflow.db"

    def of(self, profile: str) -> dict[str, Any]:
        return {
            "assets": self.materializations(profile),
            "runs": self.runs(profile),
            "model": self.model(profile),
            "files": self.files(profile),
        }

    def materializations(self, profile: str) -> dict[str, list[str]]:
        """The runs that made each asset."""
        with dg.DagsterInstance.from_config(str(self._home / ".dagster")) as instance:
            keys = [key for key in instance.all_asset_keys() if key.path[0] == profile]
            records = {key: instance.fetch_materializations(key, limit=100).records for key in keys}
            return {key.to_user_string(): [record.run_id for record in found] for key, found in records.items()}

    def runs(self, profile: str) -> set[tuple[str, str]]:
        """The runs of the profile's experiment, and when each ended."""
        client = MlflowClient(self._uri)
        experiment = client.get_experiment_by_name(f"dualgeo-{profile}")
        return {(run.info.run_id, run.info.end_time) for run in client.search_runs([experiment.experiment_id])}

    def model(self, profile: str) -> tuple[list[str], str | None]:
        """The versions of the registered model, and the champion."""
        registry = Registry(self._uri, profile=profile)
        return registry.versions(), registry.version_of(CHAMPION)

    def files(self, profile: str) -> dict[str, int]:
        """When each artifact was written."""
        files = (path for path in (self._home / "artifacts" / profile).rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.fixture
def home(graph_home: Home, tmp_path: Path) -> Home:
    """A copy of the home in which the graph ran for `tiny`, with a second profile."""
    shutil.copytree(graph_home.path, tmp_path / "home")
    (tmp_path / "home" / "profiles" / "other.yaml").write_text(OTHER_PROFILE)
    return Home(tmp_path / "home")


def test_a_run_of_one_profile_leaves_the_other_alone(home: Home) -> None:
    kept = Kept(home)
    before = kept.of("tiny")

    home.dualgeo("run", "--profile", "other")

    assert kept.of("tiny") == before
    other = kept.of("other")
    assert {key.removeprefix("other/") for key in other["assets"]} >= {"models", "scores", "champion"}
    assert len(other["runs"]) == 3, "the whole graph, its one benchmark, and what the machine did"
    assert other["model"] == (["1"], "1"), "the first version of this profile, whatever the other one has"


def test_one_process_serves_one_profile(home: Home) -> None:
    code = (
        "from dualgeo_dagster import locations\n"
        "assert locations.tiny is locations.tiny\n"
        "try: locations.other\n"
        "except AttributeError as error: print(error)"
    )
    said = home.python("-c", code).stdout
    assert said == "this process has loaded the profile tiny: load other in another process\n"
