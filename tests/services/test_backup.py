"""The backup of docs/operations.md: a copied home is restored at another path, and works without the old one."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Home


@pytest.fixture(scope="module")
def restored(graph_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A finished home, copied to another path by `cp -a`, while its old path is empty."""
    folder = tmp_path_factory.mktemp("backup")
    old, new = folder / "old", folder / "new"
    shutil.copytree(graph_home.path, old, symlinks=True)
    Home(old).dualgeo("versions", "--profile", "tiny")  # MLflow's records now name the old path
    shutil.copytree(old, new, symlinks=True)
    shutil.rmtree(old)
    return Home(new)


def test_a_restored_home_reuses_its_version_and_compares_the_next_one(restored: Home) -> None:
    before = restored.dualgeo("versions", "--profile", "tiny").stdout
    assert "version 1  champion, challenger" in before
    printed = restored.dualgeo("run", "--profile", "tiny")
    assert restored.dualgeo("versions", "--profile", "tiny").stdout == before, "nothing is registered a second time"
    assert "was not evaluated" not in printed.stdout + printed.stderr

    profile = restored.path / "profiles" / "tiny.yaml"
    profile.write_text(profile.read_text().replace("epochs: 2", "epochs: 1"))
    restored.dualgeo("run", "--profile", "tiny")
    assert "version 2" in restored.dualgeo("versions", "--profile", "tiny").stdout
    decision = restored.python("-c", DECISION).stdout
    assert "Compared photos" in decision, "the champion's predictions were found"


def test_the_champion_of_a_restored_home_is_loaded_from_it(restored: Home) -> None:
    loaded = json.loads(restored.python("-c", CHAMPION).stdout.splitlines()[-1])
    assert Path(loaded["folder"]).is_relative_to(restored.path)
    assert loaded["files"] > 0


def test_no_file_of_the_old_path_was_written(restored: Home) -> None:
    assert not (restored.path.parent / "old").exists()


DECISION = """
import dagster as dg, os
from dualgeo_dagster.runtime.instance import ensure_dagster_home
from pathlib import Path
ensure_dagster_home(Path(os.environ["DUALGEO_HOME"]))
with dg.DagsterInstance.get() as instance:
    event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", "champion"]))
    print(sorted(event.asset_materialization.metadata))
"""
CHAMPION = """
import json, os
from pathlib import Path
import mlflow
from dualgeo_dagster.mlflow.store import local_store
mlflow.set_tracking_uri(local_store(Path(os.environ["DUALGEO_HOME"])).tracking_uri)
folder = Path(mlflow.artifacts.download_artifacts(artifact_uri="models:/dualgeo-tiny@champion"))
print(json.dumps({"folder": str(folder), "files": len(list((folder / "artifacts" / "locator").iterdir()))}))
"""
