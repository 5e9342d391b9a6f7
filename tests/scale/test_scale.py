"""A gallery of 50,000 photos in 2 GB of memory, by one process and by three nodes, killed in the middle of each step.

It takes about half an hour on two cores: `make test-scale`, outside the other tests.
"""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image
from ray.cluster_utils import Cluster
from service_processes import wait_for

from dualgeo_core.base.artifacts import RECORD
from dualgeo_core.base.files import read_json

PHOTOS = 50_000
UNREADABLE, REPEATED, MISSING = 40, 30, 20
MEMORY, TRAINING_MEMORY = 2 * 1024**3, 3 * 1024**3  # resident bytes of each process
TRAINING = "train joint"
CITIES = [(48.85, 2.35), (40.4, -3.7), (52.52, 13.4), (30.05, 31.25), (28.61, 77.2), (39.9, 116.4), (-33.45, -70.66)]
HEADER = "IMG_ID,AUTHOR,LAT,LON,S3_Label,Prob_urban,neighbourhood,city,county,state,region,country,continent"
PROFILE = {
    "device": "cpu",
    "threads": 1,
    "photos": {"gallery": {"photo_set": "mp16"}, "benchmarks": {"queries": {"photo_set": "queries"}}},
    "segmenter": {"kind": "codebook", "image_size": 32, "mask_size": 12, "codebook_classes": 5, "codebook_photos": 500},
    "encoder": {"name": "efficientnet-lite0", "image_size": 32, "token_grid": 1},
    "relighting": {"copies": 1},
    "model": {"variants": ["encoder", "joint"], "main": "joint", "label_grid": 8, "width": 32, "heads": 2},
    "training": {"epochs": 1, "batch_size": 512},
}
# The folders under artifacts/scale that each step writes, and its call.
STEPS = {
    "masks": "make_masks(workspace, GALLERY)",
    "features": "make_features(workspace, GALLERY)",
    "relit_views": "make_relit_views(workspace)",
    "embeddings": "make_embeddings(workspace, 'encoder')",
}
CODE = """
from dualgeo_core.pipeline.stage1 import *
from dualgeo_core.settings import load_settings

workspace = Workspace(load_settings())
"""


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    """Watches all processes that the tests start, and fails if one of them has had too much memory."""
    peaks, ended = dict[str, int](), Event()

    def watch() -> None:
        while not ended.wait(0.2):
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    what = " ".join(child.cmdline())[-80:]
                    peaks[what] = max(peaks.get(what, 0), child.memory_info().rss)

    watcher = Thread(target=watch)
    watcher.start()
    yield
    ended.set()
    watcher.join()
    too_large = [
        (what, peak) for what, peak in peaks.items() if peak > (TRAINING_MEMORY if what.endswith(TRAINING) else MEMORY)
    ]
    assert not too_large


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table and the tar, in two parts, of a gallery as MP16-Pro ships it."""
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    scenes = random.integers(0, 255, (500, 84, 112, 3)).astype(np.uint8)
    with (folder / "table.csv").open("w", newline="") as table, tarfile.open(folder / "all.tar", "w") as tar:
        rows = csv.writer(table)
        table.write(f"{HEADER}\n")
        for number in range(PHOTOS):
            photo_id = f"{number % 256:02x}/{number % 251:02x}/{number}.jpg"
            latitude, longitude = CITIES[number % len(CITIES)] + random.normal(scale=0.05, size=2)
            place = ["", "city", "", "state", "", "country", "continent"]
            for _ in range(2 if number < REPEATED else 1):
                rows.writerow([photo_id, f"author{number // 9}", latitude, longitude, 1, 0.5, *place])
            if number >= PHOTOS - MISSING:
                continue
            scene = scenes[number % len(scenes)]
            scene[:, :20] = number % 256
            photo = jpeg(scene) if number >= REPEATED + UNREADABLE or number < REPEATED else b"not a photo" * 1000
            member = tarfile.TarInfo(f"./images/{photo_id.replace('/', '_')}")
            member.size = len(photo)
            tar.addfile(member, io.BytesIO(photo))
    with (folder / "all.tar").open("rb") as whole:
        half = os.fstat(whole.fileno()).st_size // 2
        (folder / "images00").write_bytes(whole.read(half))
        with (folder / "images01").open("wb") as rest:
            shutil.copyfileobj(whole, rest)
    (folder / "all.tar").unlink()
    return folder


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs for workers, and three nodes with one CPU each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def process(*command: str, home: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "DUALGEO_HOME": str(home), "DUALGEO_PROFILE": "scale", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def killed_and_repeated(start: Callable[[], subprocess.Popen[str]], *, files: Callable[[], int], of: int) -> None:
    """Kills the process when some files are there, and lets a second one finish."""
    first = start()
    wait_for(lambda: files() >= 3 or first.poll() is not None, "the first files")
    assert first.poll() is None, first.communicate()[0]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert files() < of
    again = start()
    output, _ = again.communicate()
    assert again.returncode == 0, output


def built(home: Path, archive: Path, *, engine: str, killed: bool, **environment: str) -> dict[str, str]:
    """The content of every record of a gallery, from the archive to embeddings."""
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "scale.yaml").write_text(yaml.safe_dump({**PROFILE, "engine": engine}))
    photos, artifacts = home / "data" / "mp16", home / "artifacts" / "scale"
    parts = [str(archive / name) for name in ("table.csv", "images00", "images01")]
    ingest = ["-m", "dualgeo_core.cli", "ingest", "mp16", *parts, "--out", str(photos)]
    shards = -(-(PHOTOS - UNREADABLE - MISSING) // 1024)
    if killed:
        written = lambda: len(list((home / "data").rglob("photos-*.parquet")))  # noqa: E731
        killed_and_repeated(lambda: process(*ingest, home=home), files=written, of=shards)
    else:
        finish(process(*ingest, home=home))
    finish(process("-c", f"{CODE}make_segmenter(workspace)", home=home))
    for step, call in STEPS.items():
        finished = lambda step=step: len(list((artifacts / step).glob("*.partial/photos-*")))  # noqa: E731
        start = lambda call=call: process("-c", CODE + call, home=home, **environment)  # noqa: E731
        killed_and_repeated(start, files=finished, of=shards)
    return {str(path.relative_to(home)): path.read_text() for path in sorted(artifacts.rglob(RECORD))}


def finish(started: subprocess.Popen[str]) -> str:
    output, _ = started.communicate()
    assert started.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def local(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    home = tmp_path_factory.mktemp("local")
    return home, built(home, archive, engine="local", killed=False)


def test_one_process_ingests_everything_that_is_usable(local: tuple[Path, dict[str, str]]) -> None:
    home, records = local
    manifest = read_json(home / "data" / "mp16" / "set.json")
    assert manifest["photos"] == PHOTOS - UNREADABLE - MISSING
    assert manifest["quarantined"] == UNREADABLE + REPEATED + MISSING
    assert len(records) >= len(STEPS)


def test_three_nodes_end_with_the_same_records(
    local: tuple[Path, dict[str, str]], archive: Path, cluster: Cluster, tmp_path: Path
) -> None:
    assert built(tmp_path, archive, engine="ray", killed=True, RAY_ADDRESS=cluster.address) == local[1]


def test_two_processes_train_on_these_shards(local: tuple[Path, dict[str, str]]) -> None:
    home, _ = local
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dualgeo_core.cli"]
    finish(process(*launch, *TRAINING.split(), home=home, ACCELERATE_USE_CPU="true"))
    assert (home / "artifacts" / "scale" / "models" / "joint" / RECORD).is_file()
