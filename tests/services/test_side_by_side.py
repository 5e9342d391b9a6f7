"""Models trained side by side, each in a process of its own: the same weights as alone, and a stop that is obeyed."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import Home

from dualgeo_core.model.interruption import TrainingInterruptedError
from dualgeo_core.pipeline.stage1 import make_model
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import Representation, load_settings
from dualgeo_dagster.runtime.side_by_side import Order, models_at_once, train_side_by_side

VARIANTS: tuple[Representation, ...] = ("image_only", "joint")


@pytest.fixture
def order(graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """Training of two models in a copy of the graph's home, with two CPU threads."""
    shutil.copytree(graph_home.path, tmp_path / "home")
    shutil.rmtree(tmp_path / "home" / "artifacts" / "tiny" / "models")
    profile = tmp_path / "home" / "profiles" / "tiny.yaml"
    text = profile.read_text().replace("threads: 1", "threads: 2").replace("[encoder, joint]", "[image_only, joint]")
    profile.write_text(text)
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DUALGEO_PROFILE", "tiny")
    uri = f"sqlite:///{tmp_path}/home/.mlflow/mlflow.db"
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    [run, *_] = client.search_runs([client.get_experiment_by_name("dualgeo-tiny").experiment_id])
    return Order(tracking_uri=uri, run_ids=dict.fromkeys(VARIANTS, run.info.run_id), unattended=False)


def _weights(workspace: Workspace) -> dict[str, bytes]:
    return {name: (workspace.folder("models", name) / "model.safetensors").read_bytes() for name in VARIANTS}


def test_models_trained_side_by_side_are_those_trained_one_after_the_other(order: Order) -> None:
    workspace, threads = Workspace(load_settings()), torch.get_num_threads()
    assert models_at_once(workspace) == 2
    messages = list(train_side_by_side({}, VARIANTS, order, at_once=2, say=lambda line: None))
    assert {message["representation"] for message in messages} == set(VARIANTS)
    together = _weights(workspace)
    shutil.rmtree(workspace.settings.artifacts / "models")
    for name in VARIANTS:
        make_model(workspace, name, on_metrics=lambda step, metrics: None)
    torch.set_num_threads(threads)
    assert _weights(workspace) == together


def test_a_stop_reaches_every_training_and_leaves_its_checkpoint(order: Order) -> None:
    models = Workspace(load_settings()).settings.artifacts / "models"
    checkpoints = [models / f"{name}.partial" / "checkpoint.safetensors" for name in VARIANTS]

    def stop_both() -> None:
        while not all(checkpoint.exists() for checkpoint in checkpoints):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_both, daemon=True).start()
    endless = {"epochs": 10_000, "patience": 10_000}
    with pytest.raises(TrainingInterruptedError, match="start it again to resume"):
        list(train_side_by_side(endless, VARIANTS, order, at_once=2, say=lambda line: None))
    assert all(checkpoint.exists() for checkpoint in checkpoints)
