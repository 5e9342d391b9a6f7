"""The command line itself: version, help, wrong names, and what a command loads."""

import subprocess
import sys

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from dualgeo_core.cli import app

HEAVY = ("torch", "mlflow", "litellm", "openai", "transformers", "dagster", "pandas")


def test_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("dualgeo ")


@pytest.mark.parametrize(
    "command",
    [["--help"], ["--version"], ["run", "--profile", "nope"], ["versions", "--profile", "nope"], ["nope"]],
    ids=" ".join,
)
def test_help_and_wrong_names_load_no_heavy_library(command: list[str]) -> None:
    code = (
        "import sys\nfrom dualgeo_core.cli import main\n"
        f"sys.argv = ['dualgeo', *{command}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_wrong_profile_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dualgeo_core.cli", "run", "--profile", "nope"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
