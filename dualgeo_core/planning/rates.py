"""Measured rates of each asset, kept with the fingerprint of the machine and the settings that they hold for."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint, read_json, write_json
from dualgeo_core.settings import Profile, Settings

RATES_VERSION = 1
SECTIONS = {"device", "threads", "segmenter", "encoder", "relighting", "model", "retrieval", "refinement"}
# They change how much work there is, or nothing, and not how long a photo takes.
NO_RATE = {"epochs", "patience", "seed", "learning_rate", "weight_decay", "warmup_share", "validation_seed"}


class AssetRates(BaseModel):
    """What one asset takes: seconds per unit of its work, disk, memory and cores.

    `seconds` is by unit, and `seconds_once` is once. Disk is in bytes per gallery photo (per query for `benchmarks`).
    Memory is the peak of the calibration. `busy_cores` is the number of CPU cores in use on average.
    """

    model_config = ConfigDict(extra="forbid")

    seconds: dict[str, float]
    seconds_once: float
    disk_per_photo: float
    disk_once: float
    memory: float
    busy_cores: float


class Rates(BaseModel):
    """The rates of a profile on a machine. `width` is the number of dimensions of the main retrieval vector."""

    model_config = ConfigDict(extra="forbid")

    version: int
    machine: dict[str, Any]
    profile: str
    photos: int
    photo_bytes: float
    seconds: float
    width: int
    assets: dict[str, AssetRates]


def this_machine(profile: Profile) -> dict[str, Any]:
    """The parts of this machine that rates depend on."""
    import torch  # slow, and needed only where there are rates

    gpu = torch.cuda.is_available() and profile.device != "cpu"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "gpus": torch.cuda.device_count() if gpu else 0,
        "torch": torch.__version__,
    }


def profile_fingerprint(profile: Profile) -> str:
    """A fingerprint of the settings that rates depend on."""
    training = profile.training.model_dump(mode="json", exclude=NO_RATE)
    return fingerprint(RATES_VERSION, profile.model_dump(mode="json", include=SECTIONS), training)


def rates_file(settings: Settings) -> Path:
    """Where the rates that were measured on this machine are kept."""
    return settings.artifacts / "rates.json"


def write_rates(path: Path, rates: Rates) -> None:
    write_json(path, rates.model_dump(mode="json"))


def read_rates(path: Path, profile: Profile) -> Rates:
    """The rates in a file, of whatever machine. Raises InputError if it has none, or those of other settings."""
    try:
        rates = Rates.model_validate(read_json(path))
    except ValidationError as error:
        raise InputError(
            f"{path} holds no rates ({error.error_count()} faults); write it with `dualgeo plan --calibrate`"
        ) from None
    if rates.profile != profile_fingerprint(profile):
        raise InputError(
            f"{path} was measured with other settings than those of profile {profile.name}; run "
            f"`dualgeo plan --profile {profile.name} --calibrate` on its machine again"
        )
    return rates


def known_rates(settings: Settings) -> Rates | None:
    """The rates that were measured on this machine with these settings; None if there are none."""
    try:
        rates = read_rates(rates_file(settings), settings.profile)
    except InputError:
        return None
    return rates if rates.machine == this_machine(settings.profile) else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
