"""Photo sets in DVC: absent sets are pulled, and changed sets are not mistaken for the recorded version."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Home

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.photo_versions import DvcBusyError, build_photo_set, photo_set_hash, recorded_versions


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Home]) -> Path:
    """A home whose set by_night was added to DVC and pushed to a remote."""
    folder = tmp_path_factory.mktemp("versions")
    home = new_home(folder / "home")
    home.python("-m", "dvc", "remote", "add", "-q", "-d", "local", str(folder / "remote"))
    home.python("-m", "dvc", "push", "-q")
    return home.path


def test_an_absent_set_is_pulled(home: Path) -> None:
    before = (home / "data" / "by_night" / "set.json").read_bytes()
    recorded = photo_set_hash("by_night", home=home)
    shutil.rmtree(home / "data" / "by_night")
    shutil.rmtree(home / ".dvc" / "cache")
    said: list[str] = []
    assert build_photo_set("by_night", home=home, say=said.append) == recorded
    assert (home / "data" / "by_night" / "set.json").read_bytes() == before
    assert said, "what DVC does is told"


def test_a_changed_set_is_not_the_recorded_version(home: Path) -> None:
    quarantine = home / "data" / "by_night" / "quarantine.csv"
    kept = quarantine.read_bytes()
    quarantine.unlink()  # DVC may have linked it to its cache
    quarantine.write_text("changed\n")
    with pytest.raises(InputError, match="differs from the version recorded by DVC: run `dvc add data/by_night`"):
        build_photo_set("by_night", home=home, say=lambda line: None)
    quarantine.write_bytes(kept)


def test_looking_does_not_wait_for_another_dvc_command(home: Path) -> None:
    code = "from dvc.repo import Repo\nwith Repo('.').lock: print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(DvcBusyError):
            recorded_versions(["gallery"], home=home, wait=False)
        other.communicate("\n")
    assert recorded_versions(["gallery"], home=home)


def test_a_stage_that_fails_says_what_its_command_said(home: Path) -> None:
    (home / "dvc.yaml").write_text(
        "stages:\n  broken:\n    cmd: dualgeo ingest folder nowhere --out data/broken\n    outs: [data/broken]\n"
    )
    with pytest.raises(InputError, match=r"dvc repro --pull broken failed: .*nowhere"):
        build_photo_set("broken", home=home, say=lambda line: None)
    assert not (home / "data" / "broken").exists()


def test_a_stage_is_found_by_the_set_that_it_writes(home: Path) -> None:
    (home / "dvc.yaml").write_text(
        "stages:\n  nested:\n    cmd: mkdir -p data/a/b && touch data/a/b/set.json\n"
        "    outs:\n    - data/a/b:\n        persist: false\n"
    )
    before = recorded_versions(["a/b"], home=home)
    made = build_photo_set("a/b", home=home, say=lambda line: None)
    assert made == photo_set_hash("a/b", home=home)
    assert recorded_versions(["a/b"], home=home) != before


def test_an_untracked_set_is_named(home: Path) -> None:
    with pytest.raises(InputError, match="DVC does not track data/nothing"):
        build_photo_set("nothing", home=home, say=lambda line: None)
