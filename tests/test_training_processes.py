"""Training on several processes: a user error is one line, an outage is retried, and no process is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest
from conftest import TINY_PROFILE
from service_processes import wait_for

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.runtime.several_processes import launch_command
from dualgeo_dagster.runtime.training_client import run_training

LAUNCH = launch_command(2)
# A training module whose main process loses MLflow, while the other one waits for the main process.
OUTAGE = """
import signal
from dualgeo_dagster.runtime import training_process
def lose_mlflow(*_, **__): raise ConnectionError("MLflow went away")
def wait_for_ever(): training_process._workspace(); signal.pause()
training_process._train_and_report, training_process._other_process = lose_mlflow, wait_for_ever
training_process.main()
"""
# A training process that waits after its beginning.
ENDLESS = """
import signal
from dualgeo_dagster.runtime import training_process
training_process._main_process = training_process._other_process = lambda *_: signal.pause()
training_process.open_dagster_pipes = __import__("contextlib").nullcontext
training_process.main()
"""
OUT_OF_MEMORY = """
import os, signal
if os.environ["RANK"] == "1": os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
"""


def failure(command: list[str]) -> BaseException:
    """The error of a step that runs this command as its training."""
    raised: list[BaseException] = []
    extras = {"tracking_uri": "http://127.0.0.1:9", "mlflow_run_ids": {"joint": "a run"}}

    @dg.asset
    def trained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        try:
            run_training(context, command=command, extras=extras)
        except Exception as error:
            raised.append(error)
        return dg.MaterializeResult()

    dg.materialize([trained])
    return raised[0]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without photos; modules in it can be run by name."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tiny.yaml").write_text(TINY_PROFILE)
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    monkeypatch.setenv("DUALGEO_PROFILE", "tiny")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_user_error_on_all_processes_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    error = failure([*LAUNCH, "dualgeo_dagster.runtime.training_process", "{}"])
    assert isinstance(error, InputError)
    assert "\n" not in str(error)
    printed = capfd.readouterr().err
    assert "Traceback" not in printed
    assert "ChildFailedError" not in printed


def test_an_outage_of_the_main_process_ends_the_others_and_is_retried(home: Path) -> None:
    (home / "outage.py").write_text(OUTAGE)
    error = failure([*LAUNCH, "outage", "{}"])
    assert isinstance(error, ConnectionError)
    assert str(error) == "MLflow went away"


def test_a_process_killed_for_memory_is_named_with_the_settings_to_lower(home: Path) -> None:
    (home / "memory.py").write_text(OUT_OF_MEMORY)
    error = failure([*LAUNCH, "memory"])
    assert isinstance(error, InputError)
    assert "lower training.batch_size first" in str(error)


@pytest.mark.parametrize("processes", [1, 2])
def test_training_ends_when_its_step_has_died_before_it_began(home: Path, processes: int) -> None:
    (home / "endless.py").write_text(ENDLESS)
    command = [*launch_command(processes), "endless"]
    step = f"""
import subprocess
from dualgeo_dagster.runtime.several_processes import child_environment
print(subprocess.Popen({command}, env=child_environment(), stdout=subprocess.DEVNULL).pid)
"""
    died = subprocess.run([sys.executable, "-c", step], capture_output=True, text=True, check=True)
    training = psutil.Process(int(died.stdout))
    wait_for(lambda: not training.is_running(), "the end of the training")
