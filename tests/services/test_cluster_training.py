"""Training as a job of a real Ray cluster: the model of two local processes, and a resumption after a node's death."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from made_photos import make_photos
from mlflow import MlflowClient
from ray._private.node import Node
from ray.cluster_utils import Cluster
from safetensors import safe_open
from service_processes import free_port, wait_for

from dualgeo_core.base.artifacts import RECORD
from dualgeo_core.base.files import read_json

VIEWS = """
from dualgeo_core.pipeline.stage1 import make_features, make_masks, make_relit_views, make_segmenter
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.settings import load_settings

workspace = Workspace(load_settings())
make_segmenter(workspace)
make_masks(workspace, GALLERY)
make_features(workspace, GALLERY)
make_relit_views(workspace)
"""
# Dagster's step `models`; the last line is that of `dualgeo run`.
STEP = """
import sys

import dagster as dg

from dualgeo_dagster.defs.training import models
from dualgeo_dagster.mlflow.tracking import Tracking
from dualgeo_dagster.runtime.console import line_of

with dg.DagsterInstance.ephemeral() as instance:
    done = dg.materialize([models], instance=instance, resources={"tracking": Tracking()}, raise_on_error=False)
    print(*filter(None, map(line_of, instance.all_logs(done.run_id))), sep="\\n")
sys.exit(not done.success)
"""
PROFILE: dict[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "photos": {"gallery": {"photo_set": "set"}, "benchmarks": {"queries": {"photo_set": "queries"}}},
    "segmenter": {"kind": "codebook", "image_size": 64, "mask_size": 12, "codebook_classes": 5},
    "encoder": {"name": "efficientnet-lite0", "image_size": 64, "token_grid": 2},
    "model": {"variants": ["joint"], "label_grid": 8, "width": 32, "heads": 2, "gps_hidden": 32},
    "training": {"epochs": 3, "patience": 10_000, "batch_size": 16, "validation_share": 0.3, "processes": 2},
}
ON_CLUSTER = {"engine": "ray", "ray": {"training_nodes": 2}}
ENDLESS = {"epochs": 10_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that starts jobs but has no CPUs for training, and two nodes with one CPU each."""
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": free_port()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # otherwise other tests take the cores from the training
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Callable[[Path], str]) -> Path:
    """A home with both views of the gallery."""
    home = tmp_path_factory.mktemp("views")
    make_photos(home / "data", numbers=range(60))
    (home / "profiles").mkdir()
    write_profile(home, PROFILE)
    subprocess.run([sys.executable, "-c", VIEWS], env=environment(home), check=True)
    (home / ".mlflow").mkdir()
    empty_mlflow(home / ".mlflow")
    return home


@pytest.fixture
def home(views: Path, tmp_path: Path) -> Path:
    """A home with both views, whose models are trained on the cluster."""
    home = shutil.copytree(views, tmp_path / "home")
    write_profile(home, {**PROFILE, **ON_CLUSTER})
    return home


def write_profile(home: Path, profile: dict[str, Any], **training: Any) -> None:
    profile = {**profile, "training": {**profile["training"], **training}}
    (home / "profiles" / "trained.yaml").write_text(yaml.safe_dump(profile))


def environment(home: Path, cluster: Cluster | None = None) -> dict[str, str]:
    address = {} if cluster is None else {"RAY_ADDRESS": cluster.address}
    return {**os.environ, "DUALGEO_HOME": str(home), "DUALGEO_PROFILE": "trained", **address}


def step(home: Path, cluster: Cluster | None = None) -> subprocess.Popen[str]:
    """A process that runs the training step."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", STEP], env=environment(home, cluster), cwd=home, **pipes)


def last_line(process: subprocess.Popen[str], *, code: int) -> str:
    output, _ = process.communicate()
    assert process.returncode == code, output
    return output.strip().splitlines()[-1]


def model(home: Path) -> Path:
    return home / "artifacts" / "trained" / "models" / "joint"


def checkpoint_step(home: Path) -> int:
    try:
        with safe_open(model(home).with_name("joint.partial") / "checkpoint.safetensors", framework="pt") as file:
            return int(json.loads(file.metadata()["position"])["step"])
    except FileNotFoundError:
        return 0


def curves(home: Path) -> list[list[int]]:
    """The steps of the loss in each MLflow run of a training, oldest first."""
    client = MlflowClient(f"sqlite:///{home}/.mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("dualgeo-trained")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.part = 'training joint'", order_by=["start_time"])
    return [[metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] for run in runs]


def kill(node: Node, cluster: Cluster) -> None:
    """Ends a node with all its processes at once, as a power failure does."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    processes = raylet.children(recursive=True)
    cluster.remove_node(node, allow_graceful=False)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_two_nodes_train_the_model_of_two_local_processes(cluster: Cluster, views: Path, home: Path) -> None:
    assert "models ✓" in last_line(step(home, cluster), code=0)
    assert "models ✓" in last_line(step(views), code=0)
    for file in ("model.safetensors", "training.json"):
        assert (model(home) / file).read_bytes() == (model(views) / file).read_bytes()
    assert read_json(model(home) / RECORD) == read_json(model(views) / RECORD)
    assert curves(home) == curves(views) != [[]]


def test_bad_input_is_the_line_that_one_process_gives(cluster: Cluster, home: Path) -> None:
    features = home / "artifacts" / "trained" / "features" / "gallery"
    shutil.rmtree(features)
    line = last_line(step(home, cluster), code=1).partition("  ")[2]
    assert line == f"models failed: {features} is missing or unfinished: run the step features again"


def test_a_dead_node_is_one_line_and_the_next_run_resumes(cluster: Cluster, home: Path) -> None:
    write_profile(home, {**PROFILE, **ON_CLUSTER}, **ENDLESS)
    process = step(home, cluster)
    wait_for(lambda: checkpoint_step(home), "a checkpoint")
    kill(next(iter(cluster.worker_nodes)), cluster)
    assert "died during training" in last_line(process, code=1)
    cluster.add_node(num_cpus=1)
    saved = checkpoint_step(home)
    process = step(home, cluster)
    wait_for(lambda: checkpoint_step(home) > saved, "a later checkpoint")
    process.send_signal(signal.SIGINT)
    assert "stopped" in last_line(process, code=1)
    assert curves(home)[-1][0] > saved, "it resumed"
