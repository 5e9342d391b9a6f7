"""`dualgeo run` in a terminal is cancelled by Ctrl-C: training leaves a checkpoint, and Dagster says "Canceled"."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
from conftest import Home
from service_processes import wait_for


def test_ctrl_c_cancels_the_run_at_a_checkpoint(tmp_path: Path, new_home: Callable[[Path], Home]) -> None:
    home = new_home(tmp_path / "home")
    profile = home.path / "profiles" / "tiny.yaml"
    profile.write_text(profile.read_text().replace("epochs: 2", "epochs: 3000, patience: 3000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dualgeo_core.cli", "run", "--profile", "tiny"],
        env=home.environment,
        cwd=home.path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    checkpoint = home.path / "artifacts" / "tiny" / "models" / "joint.partial" / "checkpoint.safetensors"
    wait_for(lambda: checkpoint.exists() or process.poll() is not None, "a checkpoint")
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 130, told
    assert "models stopped. Run it again to resume from the last checkpoint" in told
    instance = dg.DagsterInstance.from_config(str(home.path / ".dagster"))
    [run] = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.CANCELED
    assert checkpoint.exists()
    assert [child for child in started if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
