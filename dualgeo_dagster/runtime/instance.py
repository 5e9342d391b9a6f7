"""The folder of Dagster's instance: DAGSTER_HOME, by default `.dagster` in DUALGEO_HOME."""

import os
import shutil
from pathlib import Path

INSTANCE_SETTINGS = Path(__file__).parent / "instance.yaml"


def ensure_dagster_home(home: Path) -> Path:
    """Sets DAGSTER_HOME if it is not set, and returns the folder. A new one gets `instance.yaml` as dagster.yaml."""
    folder = Path(os.environ.setdefault("DAGSTER_HOME", str(home / ".dagster")))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        shutil.copyfile(INSTANCE_SETTINGS, folder / "dagster.yaml")
    return folder
