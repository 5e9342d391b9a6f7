"""What a run is called and which code made it, in words a person understands."""

import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from dualgeo_core.settings import Profile
from dualgeo_dagster.profile import JOB, NAME

SCHEDULE, BY_ITSELF = "dagster/schedule_name", "dagster/from_automation_condition"


def run_name(profile: str, run: dg.DagsterRun) -> str:
    """`demo, weekly retraining, 2026-11-23 03:00:07`: the profile, what for, when it began (local time)."""
    return f"{profile}, {_what(run)}, {datetime.now():%Y-%m-%d %H:%M:%S}"


def _what(run: dg.DagsterRun) -> str:
    if SCHEDULE in run.tags:
        return run.tags[SCHEDULE].removeprefix(f"{NAME}_").replace("_", " ")
    if run.job_name == JOB:
        return "whole graph"
    if is_rebuild(run):
        return "new photos"
    names = sorted(key.path[-1] for key in run.asset_selection or ())
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def is_rebuild(run: dg.DagsterRun) -> bool:
    """Whether it is one of the runs that new photos asked for."""
    return BY_ITSELF in run.tags


def is_unattended(run: dg.DagsterRun) -> bool:
    """Whether nobody is there to decide what becomes of an unfinished training of other settings."""
    return SCHEDULE in run.tags or is_rebuild(run)


def parameters(profile: Profile, run: dg.DagsterRun) -> dict[str, str]:
    """The profile, and the training settings that this run was launched with, as MLflow parameters."""
    ops: dict[str, Any] = run.run_config.get("ops", {})  # type: ignore[assignment]
    asked = ops.get("models", {}).get("config", {})
    return _flat(profile.model_dump(mode="json")) | _flat({"training": asked})


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`training.batch_size` -> `256`."""
    flat: dict[str, str] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def commit(home: Path) -> str:
    """The commit that is checked out, with `+changes` where files differ from it; `none` outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+changes"], cwd=home, capture_output=True, text=True
    )
    return described.stdout.strip() or "none"
