"""Where Dagster keeps its history: DAGSTER_HOME, or `.dagster` in the project's home."""

import os
import shutil
from pathlib import Path

INSTANCE_SETTINGS = Path(__file__).parent.parent / "dagster.yaml"


def ensure_dagster_home(home: Path) -> None:
    """Sets DAGSTER_HOME where nobody has, and gives a new folder the instance's settings."""
    folder = Path(os.environ.setdefault("DAGSTER_HOME", str(home / ".dagster")))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        shutil.copyfile(INSTANCE_SETTINGS, folder / "dagster.yaml")
