"""Shards written by a real Ray cluster of three nodes: byte for byte those of one process, also after deaths."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from made_photos import make_photos
from ray._private.node import Node
from ray.cluster_utils import Cluster
from service_processes import free_port, wait_for

from dualgeo_core.base.artifacts import RECORD

STEPS = """
from dualgeo_core.pipeline.stage1 import make_embeddings, make_features, make_masks, make_relit_views, make_segmenter
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.settings import load_settings

workspace = Workspace(load_settings())
make_segmenter(workspace)
make_masks(workspace, GALLERY)
make_features(workspace, GALLERY)
make_relit_views(workspace)
print(make_embeddings(workspace, "encoder"))
"""
PROFILE = {
    "device": "cpu",
    "threads": 1,
    "photos": {"gallery": {"photo_set": "set"}, "benchmarks": {"queries": {"photo_set": "queries"}}},
    "segmenter": {"kind": "codebook", "image_size": 64, "mask_size": 12, "codebook_classes": 5, "batch_size": 4},
    "encoder": {"name": "efficientnet-lite0", "image_size": 128, "token_grid": 2, "batch_size": 4},
    "relighting": {"copies": 1},
    "model": {"variants": ["encoder"], "main": "encoder", "label_grid": 8},
}
PHOTOS, SHARDS = 280, 40


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs for workers, and two nodes with one CPU each. A test adds a third node, and kills one."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose gallery one process has built."""
    home = made_home(tmp_path_factory.mktemp("local"), engine="local")
    finish(driver(home))
    return home


def made_home(home: Path, *, engine: str) -> Path:
    (home / "profiles").mkdir()
    (home / "profiles" / "sharded.yaml").write_text(yaml.safe_dump({**PROFILE, "engine": engine}))
    make_photos(home / "data", numbers=range(PHOTOS))
    return home


def driver(home: Path, address: str | None = None) -> subprocess.Popen[str]:
    """A process that builds the gallery up to its embeddings."""
    environment = {**os.environ, "DUALGEO_HOME": str(home), "DUALGEO_PROFILE": "sharded"}
    if address is not None:
        environment["RAY_ADDRESS"] = address
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, "-c", STEPS], env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def artifacts_of(home: Path) -> dict[str, bytes]:
    root = home / "artifacts" / "sharded"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and (path.suffix in (".parquet", ".safetensors") or path.name == RECORD)
    }


def written(home: Path, kind: str) -> int:
    return len(list((home / "artifacts" / "sharded" / kind).glob("*.partial/photos-*")))


def stopped_worker(cluster: Cluster) -> tuple[Node, psutil.Process] | None:
    """A worker that has a shard, and its node. The worker is stopped, so that it keeps its shard."""
    for node in cluster.worker_nodes:
        for process in psutil.Process(node.all_processes["raylet"][0].process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if _writes(process):
                    process.suspend()
                    if _writes(process):
                        return node, process
                    process.resume()
    return None


def _writes(process: psutil.Process) -> bool:
    return "ray::Worker.write" in " ".join(process.cmdline())


def test_a_node_dies_and_the_others_finish_with_the_same_bytes(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=1)
    home = made_home(tmp_path, engine="ray")
    process = driver(home, cluster.address)
    try:
        in_work = lambda: stopped_worker(cluster) if written(home, "features") else None  # noqa: E731
        node, worker = wait_for(in_work, "a shard in work")
        assert written(home, "features") < SHARDS
        cluster.remove_node(node, allow_graceful=False)
        worker.kill()
        assert "is tried again" in finish(process), "the dead node's work was lost"
    finally:
        process.kill()
    assert artifacts_of(home) == artifacts_of(undisturbed)


def test_a_killed_driver_goes_on_with_the_shards_that_are_there(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    home = made_home(tmp_path, engine="ray")
    process = driver(home, cluster.address)
    wait_for(lambda: written(home, "masks") > 1, "the first masks")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 1 < written(home, "masks") < SHARDS
    inodes = {path: path.stat().st_ino for path in (home / "artifacts/sharded/masks/gallery.partial").glob("photos-*")}
    finish(driver(home, cluster.address))
    assert artifacts_of(home) == artifacts_of(undisturbed)
    finished = home / "artifacts/sharded/masks/gallery"
    assert all((finished / path.name).stat().st_ino == inode for path, inode in inodes.items()), "nothing done twice"


def test_a_damaged_photo_set_stops_the_build_with_the_line_that_one_process_gives(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    home = made_home(tmp_path, engine="ray")
    shutil.copytree(undisturbed / "artifacts/sharded/segmenter", home / "artifacts/sharded/segmenter")
    damaged = sorted((home / "data" / "set").glob("photos-*"))[-1]
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    process = driver(home, cluster.address)
    output, _ = process.communicate()
    last = output.strip().splitlines()[-1]
    assert process.returncode
    assert last.endswith(f"{damaged} is damaged: restore the photo set, or ingest it again")
    assert not (home / "artifacts/sharded/masks/gallery").exists()


def test_an_address_without_a_cluster_is_one_line(undisturbed: Path, tmp_path: Path) -> None:
    home = made_home(tmp_path, engine="ray")
    shutil.copytree(undisturbed / "artifacts/sharded/segmenter", home / "artifacts/sharded/segmenter")
    address = f"127.0.0.1:{free_port()}"
    process = driver(home, address)
    output, _ = process.communicate()
    assert process.returncode
    assert f"InputError: no Ray cluster answers at RAY_ADDRESS {address}" in output.strip().splitlines()[-1]
