"""Benchmarks that can be run small: they finish, and their last line is JSON with every figure."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _last_line(*command: str) -> dict:
    done = subprocess.run([sys.executable, *command], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_stage_is_measured_on_this_device_beside_its_floor() -> None:
    result = _last_line("device.py", "--tiny")
    for stage in ("segmentation", "encoding", "training", "search"):
        rate, floor = (result[stage][name] for name in ("photos_per_s", "floor_photos_per_s"))
        assert rate > 0
        assert result[stage]["share_of_floor"] == rate / floor
