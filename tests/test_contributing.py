"""The recipe for a refinement method, followed to the letter, gives a method that works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from conftest import ROOT
from made_candidates import made_benchmark


def recipe(heading: str) -> str:
    """The patch in the section of this heading."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split(f"### {heading}\n")[1].split("\n### ")[0]
    block = re.search(r"```diff\n(.*?)```", section, re.DOTALL)
    assert block is not None, f"the recipe {heading!r} holds no patch"
    return block[1]


def test_the_recipe_for_a_refinement_method_works(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dualgeo_core", tmp_path / "dualgeo_core", ignore=shutil.ignore_patterns("__pycache__"))
    patch = recipe("A refinement method")
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, check=True)
    candidates, _, _ = made_benchmark(queries=20)
    candidates.to_csv(tmp_path / "candidates.csv", index=False)

    command = ["-m", "dualgeo_core.cli", "refine", "candidates.csv", "--method", "medoid", "--out", "predictions.csv"]
    subprocess.run([sys.executable, *command], cwd=tmp_path, check=True)

    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert len(predictions) == 20
    similar = candidates[candidates["kind"] == "similar"] if "kind" in candidates else candidates
    places = set(zip(similar["latitude"].round(6), similar["longitude"].round(6), strict=True))
    found = zip(predictions["latitude"].round(6), predictions["longitude"].round(6), strict=True)
    assert set(found) <= places, "the method chooses one of the candidates"
