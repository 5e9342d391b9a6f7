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


def begin_retries() -> None:
    """Lets a new instance retry the runs that fail from now on.

    Dagster's daemon does the same at its first start, with a warning for each kind of event.
    """
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        positions = instance.daemon_cursor_storage
        kinds = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)
        names = {f"EVENT_LOG_CONSUMER_CURSOR-{kind.value}" for kind in kinds}
        missing = names - positions.get_cursor_values(names).keys()
        if missing:
            now = str(instance.event_log_storage.get_maximum_record_id() or 0)
            positions.set_cursor_values(dict.fromkeys(missing, now))
