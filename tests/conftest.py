"""Set-up shared by all tests: no network, one thread, prepared homes, and a home in which the whole graph has run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

# The user's shell may set these variables, and MLflow's client sets some itself.
OURS = ("DUALGEO_PROFILE", "DUALGEO_HOME", "DUALGEO_MLFLOW_UI", "MLFLOW_TRACKING_URI", "DAGSTER_HOME")
for variable in OURS:
    os.environ.pop(variable, None)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # on busy cores, torch's threads mostly wait for each other

ROOT = Path(__file__).parent.parent
SCREENSHOTS = ROOT / "artifacts" / "screenshots"
WAIT_MS = 120_000
TINY_PROFILE = """
threads: 1
photos:
  gallery: {photo_set: gallery}
  benchmarks:
    by_day: {photo_set: by_day}
    by_night: {photo_set: by_night}
segmenter: {kind: codebook, image_size: 64, mask_size: 16, codebook_classes: 8, codebook_photos: 60}
encoder: {name: efficientnet-lite0, image_size: 64, token_grid: 2}
relighting: {copies: 1}
model: {variants: [encoder, joint], width: 32, heads: 2, label_grid: 16, gps_hidden: 32}
training: {epochs: 2, batch_size: 32, learning_rate: 1.0e-3, validation_share: 0.2}
retrieval: {candidates: 10}
evaluation: {bootstrap_samples: 50}
"""
EARTH = "--image-size 64 --countries 4 --cities 2 --cells 2"
TINY_STAGES = f"""
stages:
  gallery:
    cmd: dualgeo ingest synthetic --out data/gallery --part gallery --photos 120 {EARTH}
    outs: [data/gallery]
  by_day:
    cmd: dualgeo ingest synthetic --out data/by_day --part same_weather --photos 16 {EARTH}
    outs: [data/by_day]
"""


class Home:
    """A separate project home with profile `tiny`, git and DVC. Commands run in it as a user would run them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in OURS},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DUALGEO_HOME": str(path),
            "DUALGEO_PROFILE": "tiny",
            "DVC_NO_ANALYTICS": "1",
        }

    def run(self, *command: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the home; fails unless it exits with `code`."""
        done = subprocess.run(
            command, cwd=self.path, env={**self.environment, **environment}, capture_output=True, text=True
        )
        assert done.returncode == code, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def python(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, *arguments, code=code, **environment)

    def dualgeo(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "dualgeo_core.cli", *arguments, code=code)


def prepare_home(path: Path) -> None:
    """Makes the home that tests copy: profile and stages, git, DVC, and one photo set that was added to DVC."""
    (path / "profiles").mkdir(parents=True)
    (path / "profiles" / "tiny.yaml").write_text(TINY_PROFILE)
    (path / "dvc.yaml").write_text(TINY_STAGES)
    (path / "data").mkdir()
    home = Home(path)
    home.run("git", "init", "-q")
    home.python("-m", "dvc", "init", "-q")
    # One set is a stage of dvc.yaml; this one is added with `dvc add`, as users add their own.
    night = f"--part night --photos 16 {EARTH}".split()
    home.dualgeo("ingest", "synthetic", "--out", "data/by_night", *night)
    home.python("-m", "dvc", "add", "-q", "data/by_night")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ui", action="store_true", help="also run what needs a browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--ui"):
        return
    for item in items:
        if "ui" in item.keywords:
            item.add_marker(
                pytest.mark.skip(reason="the web pages in a browser: left out here, `make test-ui` runs them")
            )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Modules stay whole, and those that use the graph's home share one worker: the others do not wait for it."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = super()._split_scope(nodeid)
            return "graph" if "graph_home" in (ROOT / module).read_text(encoding="utf-8") else module

    return Scheduling(config, log)


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(autouse=True)
def _no_mlflow_address_of_another_test() -> Iterator[None]:
    """MLflow's client writes the address that it is given into the environment, where the next test would read it."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: the folder that `make(folder)` fills, made by one worker of the session for all of them."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder_of(name: str, make: Callable[[Path], None]) -> Path:
        folder, finished = shared / name, shared / f"{name}.finished"
        with FileLock(shared / f"{name}.lock"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                finished.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def new_home(once: Once) -> Callable[[Path], Home]:
    """`new_home(path)`: a copy of the prepared home at `path`."""

    def copied(path: Path) -> Home:
        prepared = once("prepared", lambda folder: prepare_home(folder / "home"))
        shutil.copytree(prepared / "home", path)
        return Home(path)

    return copied


@pytest.fixture(scope="session")
def empty_mlflow(once: Once) -> Callable[[Path], str]:
    """`empty_mlflow(folder)`: the address of an empty MLflow database in `folder`. Its tables take seconds to make."""

    def make(folder: Path) -> None:
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    def copied(folder: Path) -> str:
        shutil.copyfile(once("empty_mlflow", make) / "mlflow.db", folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    return copied


@pytest.fixture(scope="session")
def graph_home(once: Once, new_home: Callable[[Path], Home]) -> Home:
    """A home in which the whole graph has run once. Tests must not change it.

    `printed` is the run's standard output, and `told` its standard error.
    """

    def run(folder: Path) -> None:
        done = new_home(folder / "home").dualgeo("run", "--profile", "tiny")
        (folder / "printed").write_text(done.stdout)
        (folder / "told").write_text(done.stderr)

    folder = once("graph", run)
    home = Home(folder / "home")
    home.printed, home.told = ((folder / name).read_text() for name in ("printed", "told"))
    return home


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "there is no Chromium: apt install chromium"
    with sync_playwright() as playwright:
        # The sandbox refuses to run as root, as in many containers.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A browser page; its final state is saved as a screenshot with the test's name."""
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.set_default_timeout(WAIT_MS)
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.name}.png", animations="disabled")
    page.close()
