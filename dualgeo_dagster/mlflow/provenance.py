"""Names, parameters and git commit of MLflow runs."""

import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from dualgeo_core.settings import Profile
from dualgeo_dagster.profile import JOB, NAME
from dualgeo_dagster.settings import TrackingEnvironment, current_user

SCHEDULE, BY_ITSELF = "dagster/schedule_name", "dagster/from_automation_condition"


def run_name(profile: str, run: dg.DagsterRun) -> str:
    """Profile, purpose and start (local time) of a run: `demo, weekly retraining, 2026-11-23 03:00:07`."""
    return f"{profile}, {_purpose(run)}, {datetime.now():%Y-%m-%d %H:%M:%S}"


def _purpose(run: dg.DagsterRun) -> str:
    if SCHEDULE in run.tags:
        return run.tags[SCHEDULE].removeprefix(f"{NAME}_").replace("_", " ")
    if run.job_name == JOB:
        return "whole graph"
    if is_rebuild(run):
        return "new photos"
    names = sorted(key.path[-1] for key in run.asset_selection or ())
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def is_rebuild(run: dg.DagsterRun) -> bool:
    """Whether the run was launched by an automation condition, because of new photos."""
    return BY_ITSELF in run.tags


def is_unattended(run: dg.DagsterRun) -> bool:
    """Whether the run was launched by a schedule or a sensor, so that no user can decide about unfinished training."""
    return SCHEDULE in run.tags or is_rebuild(run)


def parameters(profile: Profile, run: dg.DagsterRun) -> dict[str, str]:
    """The settings of the profile and of this run that differ from the defaults, as MLflow parameters.

    A comparison of runs then shows the choices that were made. `settings_file` has all settings.
    """
    ops: dict[str, Any] = run.run_config.get("ops", {})  # type: ignore[assignment]
    asked = ops.get("models", {}).get("config", {})
    return _flat(profile.model_dump(mode="json", exclude_defaults=True)) | _flat({"training": asked})


def settings_file(profile: Profile) -> str:
    """All settings of a profile, with the defaults, as YAML."""
    return yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def origin(run: dg.DagsterRun, *, home: Path) -> dict[str, str]:
    """MLflow's tags for the user, the source and the description of a run."""
    page = f"{TrackingEnvironment().dagster_ui}/runs/{run.run_id}"
    head = commit(home)
    return {
        "git.commit": head,
        "mlflow.source.git.commit": head,
        "mlflow.source.name": f"dagster job {run.job_name}",
        "mlflow.source.type": "JOB",
        "mlflow.user": current_user(),
        "mlflow.note.content": f"## Origin\n\n[Dagster run {run.run_id}]({page}), commit {head}",
    }


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The section with dotted keys, for example `training.batch_size`, and values as text."""
    flat: dict[str, str] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def commit(home: Path) -> str:
    """The current git commit, with `+changes` if files have been modified; `none` outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+changes"], cwd=home, capture_output=True, text=True
    )
    return described.stdout.strip() or "none"
