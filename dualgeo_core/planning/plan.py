"""What a run of a profile will take: time, disk, memory and what binds each asset, from measured rates."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualgeo_core.planning.rates import AssetRates, Rates
from dualgeo_core.planning.work import CPU_ASSETS, WORK, Size, index_lists, resident_bytes
from dualgeo_core.settings import Profile

BUSY = 0.7  # share of the cores from which all of them are the limit
ADVICE = {
    "memory": "more memory, or an index that fits (`retrieval.index_memory_gb`)",
    "GPU": "a faster GPU, or more of them",
    "CPU cores": "more cores, or a GPU for the models",
    "CPU cores beside the GPU": "more cores, or photos re-encoded with `dualgeo ingest --short-side`: decoding limits",
    "one CPU core": "a faster core; more cores change little",
}


@dataclass(frozen=True)
class PlannedAsset:
    """An asset's predicted time (s), disk and memory (bytes), and the resource that limits its speed."""

    asset: str
    seconds: float
    disk: float
    memory: float
    bound_by: str
    advice: str


@dataclass(frozen=True)
class Plan:
    """The prediction for a profile, a number of photos and a machine."""

    size: Size
    assets: tuple[PlannedAsset, ...]

    @property
    def seconds(self) -> float:
        """The time of all assets, one after the other."""
        return sum(asset.seconds for asset in self.assets)

    @property
    def disk(self) -> float:
        return sum(asset.disk for asset in self.assets)

    @property
    def memory(self) -> float:
        return max(asset.memory for asset in self.assets)

    def costs(self, prices_per_hour: Sequence[float]) -> list[float]:
        """The cost of the whole run at each price."""
        return [price * self.seconds / 3600 for price in prices_per_hour]


def plan(profile: Profile, rates: Rates, size: Size, *, photo_bytes: float | None = None) -> Plan:
    """The prediction for a machine with these rates. `photo_bytes` is the mean size of a photo's file."""
    photos_on_disk = (photo_bytes or rates.photo_bytes) * size.photos
    return Plan(
        size=size,
        assets=tuple(
            _planned(asset, profile, rates, size, photos_on_disk) for asset in WORK if _is_made(asset, profile)
        ),
    )


def _is_made(asset: str, profile: Profile) -> bool:
    if asset == "relit_views":
        return profile.relighting.copies > 0
    return asset != "models" or set(profile.model.variants) != {"encoder"}


def _planned(asset: str, profile: Profile, rates: Rates, size: Size, photos_on_disk: float) -> PlannedAsset:
    measured = rates.assets[asset]
    units = WORK[asset](profile, size, rates.width)
    seconds = measured.seconds_once + sum(units[unit] * rate for unit, rate in measured.seconds.items())
    memory = measured.memory + resident_bytes(asset, profile, photos=size.photos, width=rates.width)
    disk = photos_on_disk if asset == "gallery_photos" else _disk(asset, measured, profile, rates, size)
    bound_by = _bound_by(asset, measured, rates, memory)
    advice = "more cores" if bound_by == "CPU cores" and asset in CPU_ASSETS else ADVICE[bound_by]
    return PlannedAsset(asset, seconds, disk, memory, bound_by, advice)


def _disk(asset: str, measured: AssetRates, profile: Profile, rates: Rates, size: Size) -> float:
    if asset == "gallery_index" and index_lists(profile, photos=size.photos, width=rates.width):
        return size.photos * rates.width / 8 * len(profile.model.variants)
    counted = size.queries if asset == "benchmarks" else size.photos
    return measured.disk_once + measured.disk_per_photo * counted


def _bound_by(asset: str, measured: AssetRates, rates: Rates, memory: float) -> str:
    if memory > rates.machine["memory_gb"] * 1e9:
        return "memory"
    cores = int(rates.machine["cores"])
    if rates.machine["gpu"] is not None and asset not in CPU_ASSETS:
        return "CPU cores beside the GPU" if measured.busy_cores > BUSY * cores else "GPU"
    return "CPU cores" if measured.busy_cores > BUSY * cores else "one CPU core"
