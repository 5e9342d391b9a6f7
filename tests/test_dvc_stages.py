"""The stages of dvc.yaml in a fresh repository: reproduced without user files, pushed, deleted and pulled."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SMALL = {"seed": 5, "countries": 2, "cities": 1, "cells": 1, "image-size": 32}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the files that DVC reads, with a small synthetic Earth."""
    profiles = [f"profiles/{path.name}" for path in (ROOT / "profiles").glob("*.yaml")]
    for name in (*profiles, "dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/plots/error_cdf.json", "data/.gitignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for dependency in {path for stage in stages.values() for path in stage["deps"]}:
        (tmp_path / dependency).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / dependency).is_dir() else shutil.copy
        copy(ROOT / dependency, tmp_path / dependency)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"earth": SMALL, "photos": {"gallery": 6, "queries": 3}}))
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def dvc(repository: Path, *arguments: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    run = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def contents(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


def test_sets_are_made_pushed_lost_and_pulled_back_to_the_byte(repository: Path) -> None:
    dvc(repository, "repro")
    made, lock = contents(repository / "data"), (repository / "dvc.lock").read_text()
    assert {name.split("/")[0] for name in made} >= set(yaml.safe_load(lock)["stages"])
    assert "up to date" in dvc(repository, "status")
    dvc(repository, "push")
    for folder in (repository / "data").glob("earth_*"):
        shutil.rmtree(folder)
    shutil.rmtree(repository / ".dvc" / "cache")
    dvc(repository, "pull")
    assert contents(repository / "data") == made
    dvc(repository, "repro", "--force", "earth_night")
    assert (repository / "dvc.lock").read_text() == lock


def test_figures_of_the_last_evaluation_are_shown(repository: Path) -> None:
    report = repository / "reports" / "demo"
    report.mkdir(parents=True)
    (report / "metrics.json").write_text('{"night": {"acc_25km": 41.5}}')
    (report / "error_cdf.csv").write_text("error_km,share,method\n1,0.5,rank1\n1,0.6,posterior\n")
    assert "41.5" in dvc(repository, "metrics", "show")
    plot = dvc(repository, "plots", "show", "--show-vega", "reports/demo/error_cdf.csv")
    assert '"method": "posterior"' in plot
    assert '"type": "log"' in plot


def test_two_commits_tell_what_changed_and_what_it_did(repository: Path) -> None:
    report, profile = repository / "reports" / "demo", repository / "profiles" / "demo.yaml"
    report.mkdir(parents=True)
    for epochs, accuracy in ((10, 41.5), (20, 44.0)):
        settings = yaml.safe_load(profile.read_text())
        settings["training"]["epochs"] = epochs
        profile.write_text(yaml.safe_dump(settings))
        (report / "metrics.json").write_text(json.dumps({"night": {"acc_25km": accuracy}}))
        (report / "error_cdf.csv").write_text(f"error_km,share,benchmark\n25,{accuracy / 100},night\n")
        subprocess.run(["git", "add", "."], cwd=repository, check=True)
        author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *author, "commit", "-qm", f"{epochs} epochs"], cwd=repository, check=True)
    parameters = json.loads(dvc(repository, "params", "diff", "--json", "HEAD~1", "HEAD"))
    assert parameters["profiles/demo.yaml"]["training.epochs"]["diff"] == 10
    metrics = json.loads(dvc(repository, "metrics", "diff", "--json", "HEAD~1", "HEAD"))
    assert metrics["reports/demo/metrics.json"]["night.acc_25km"]["diff"] == 2.5
    page = Path(dvc(repository, "plots", "diff", "HEAD~1", "HEAD").strip().removeprefix("file://")).read_text()
    assert '"share": "0.415"' in page
    assert '"share": "0.44"' in page
