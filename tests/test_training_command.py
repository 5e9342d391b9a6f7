"""`dualgeo train` as a launcher sees it: metrics on stdout as they come, and a stop that loses nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY_PROFILE, Home


@pytest.fixture
def environment(graph_home: Home, tmp_path: Path) -> dict[str, str]:
    """A home with photos, features and masks of the graph's home, and profiles with a short and a long training."""
    shutil.copytree(graph_home.path / "data", tmp_path / "data")
    (tmp_path / "profiles").mkdir()
    for profile, epochs in (("short", 2), ("long", 500)):
        text = TINY_PROFILE.replace("epochs: 2", f"epochs: {epochs}, patience: 500")
        (tmp_path / "profiles" / f"{profile}.yaml").write_text(text)
        for views in ("segmenter", "features", "masks", "label_maps", "relit_views"):
            shutil.copytree(graph_home.path / "artifacts" / "tiny" / views, tmp_path / "artifacts" / profile / views)
    return {**os.environ, "DUALGEO_HOME": str(tmp_path)}


COMMAND = [sys.executable, "-m", "dualgeo_core.cli", "train", "image_only", "--json", "--profile"]


def test_metrics_stream_as_json_lines(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "short"], env=environment, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line["loss"] > 0 and line["learning_rate"] >= 0 for line in lines)
    assert 0 <= lines[-1]["validation_recall_25km"] <= 1
    assert (tmp_path / "artifacts" / "short" / "models" / "image_only" / "model.safetensors").exists()
    again = subprocess.run([*COMMAND, "short"], env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == "", "a finished run is not trained again"


def test_a_stopped_command_leaves_a_checkpoint_to_go_on_from(environment: dict[str, str]) -> None:
    with subprocess.Popen([*COMMAND, "long"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        first = json.loads(process.stdout.readline())
        for number in (signal.SIGTERM, signal.SIGINT):  # as systemd and Dagster send one stop twice
            process.send_signal(number)
        seen = [first, *(json.loads(line) for line in process.stdout)]
    assert process.returncode == 143
    with subprocess.Popen([*COMMAND, "long"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        following = json.loads(process.stdout.readline())
        process.kill()
    assert following["step"] == seen[-1]["step"] + 1
