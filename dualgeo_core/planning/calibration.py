"""Measures the rates of a profile: all its steps run on two small photo sets, and what the larger one adds is the rate.

A first pass over few photos is not measured. It loads models and compiles what is compiled at first use.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.planning.calibration_photos import calibration_images, write_calibration_set
from dualgeo_core.planning.meter import Reading, metered
from dualgeo_core.planning.rates import RATES_VERSION, AssetRates, Rates, profile_fingerprint, this_machine
from dualgeo_core.planning.steps import BENCHMARK, STEPS, Measured, retrieval_width, run_assets
from dualgeo_core.planning.work import WORK, Size, held_out
from dualgeo_core.settings import LmmSettings, PhotoSettings, PhotoSource, Profile, Settings

HELD_OUT_SHARE = 0.5  # so that the refiner is fitted on the smaller set, too
EPOCHS = 3
ASSETS = list(STEPS)
COMPARED_VECTORS, COMPARING_QUERIES = 50_000, 256


class Pass(NamedTuple):
    """What one pass over a photo set of this size gave; `single_epoch` is the training of one epoch."""

    profile: Profile
    size: Size
    measured: Measured
    single_epoch: Reading
    width: int


def calibrate(settings: Settings, *, photos: int, progress: Progress = silent) -> Rates:
    """The rates of this machine for the profile, measured with `photos` photos. Writes temporary files only.

    Raises InputError if a model of the profile is not available.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dualgeo-plan-") as temporary:
        images = calibration_images(settings, Path(temporary), photos=photos)
        sizes = (photos // 6, photos // 3, photos)
        passes = []
        for number, size in enumerate(sizes):
            progress("calibration", number, len(sizes))
            passes.append(_pass(settings.profile, Path(temporary) / str(number), images, photos=size))
            shutil.rmtree(Path(temporary) / str(number))
        progress("calibration", len(sizes), len(sizes))
    _, small, large = passes
    comparison = _comparison_seconds(large.width)
    return Rates(
        version=RATES_VERSION,
        machine=this_machine(settings.profile),
        profile=profile_fingerprint(settings.profile),
        photos=photos,
        photo_bytes=float(np.mean([len(image) for image in images])),
        seconds=round(time.monotonic() - began, 1),
        width=large.width,
        assets={asset: _rates(asset, small, large, comparison) for asset in WORK},
    )


def calibration_workspace(
    profile: Profile, home: Path, images: Sequence[bytes], *, photos: int, queries: int
) -> tuple[Workspace, Reading]:
    """A workspace in `home` with a made-up gallery and one benchmark, and what the ingest of the gallery took."""
    sets = PhotoSettings(
        gallery=PhotoSource(photo_set=GALLERY), benchmarks={BENCHMARK: PhotoSource(photo_set=BENCHMARK)}
    )
    # Asking a multimodal model costs money, and its rate is that of a server. A cluster cannot see `home`.
    profile = profile.model_copy(update={"photos": sets, "lmm": LmmSettings(), "engine": "local"})
    settings = Settings(profile=profile, home=home)
    with metered() as ingest:
        write_calibration_set(settings.data / GALLERY, images, photos=photos, training=profile.training)
    write_calibration_set(settings.data / BENCHMARK, images[::-1], photos=queries, training=profile.training)
    return Workspace(settings), ingest


def _pass(profile: Profile, home: Path, images: Sequence[bytes], *, photos: int) -> Pass:
    training = profile.training.model_copy(
        update={"validation_share": HELD_OUT_SHARE, "epochs": EPOCHS, "patience": EPOCHS, "processes": 1}
    )
    # A compressed index needs more photos.
    retrieval = profile.retrieval.model_copy(update={"index": "Flat"})
    profile = profile.model_copy(update={"training": training, "retrieval": retrieval})
    size = Size(photos=photos, queries=photos // 2)
    workspace, ingest = calibration_workspace(profile, home, images, photos=photos, queries=size.queries)
    views, rest = ASSETS[: ASSETS.index("models")], ASSETS[ASSETS.index("models") :]
    measured, short = Measured(), Measured()
    run_assets(workspace, views, into=measured)
    one_epoch = Workspace(workspace.settings.with_training({"epochs": 1, "patience": 1}))
    run_assets(one_epoch, ["models"], into=short)
    run_assets(workspace, rest, into=measured)
    measured.readings["gallery_photos"] = ingest
    return Pass(profile, size, measured, short.readings["models"], retrieval_width(workspace))


def _rates(asset: str, small: Pass, large: Pass, comparison: float) -> AssetRates:
    reading = large.measured.readings[asset]
    seconds, once = _models(small, large) if asset == "models" else _seconds(asset, small, large)
    if "comparison" in WORK[asset](large.profile, large.size, large.width):
        seconds["comparison"] = comparison
    disk = [run.measured.disk.get(asset, 0.0) for run in (small, large)]
    sizes = [run.size.queries if asset == "benchmarks" else run.size.photos for run in (small, large)]
    per_photo = max(0.0, (disk[1] - disk[0]) / (sizes[1] - sizes[0]))
    return AssetRates(
        seconds=seconds,
        seconds_once=once,
        disk_per_photo=per_photo,
        disk_once=max(0.0, disk[1] - per_photo * sizes[1]),
        memory=reading.memory,
        busy_cores=reading.cpu_seconds / reading.seconds if reading.seconds else 0.0,
    )


def _seconds(asset: str, small: Pass, large: Pass) -> tuple[dict[str, float], float]:
    """The seconds per unit, from the difference of both passes, and the rest, which comes once.

    If the larger pass was not slower, chance outweighs the work, and all its time counts per unit.
    """
    units = [WORK[asset](run.profile, run.size, run.width) for run in (small, large)]
    unit = next(iter(units[0]))
    added = units[1][unit] - units[0][unit]
    times = [run.measured.readings[asset].seconds for run in (small, large)]
    if not added:
        return {unit: 0.0}, times[1]
    rate = (times[1] - times[0]) / added
    if rate <= 0:
        return {unit: times[1] / units[1][unit]}, 0.0
    return {unit: rate}, max(0.0, times[1] - rate * units[1][unit])


def _models(small: Pass, large: Pass) -> tuple[dict[str, float], float]:
    """Seconds per photo in training and in validation and per epoch, over all trained models, and once."""
    epochs = large.measured.readings["models"].seconds - large.single_epoch.seconds
    epoch = max(0.0, epochs / (EPOCHS - 1))
    held = held_out(large.profile, large.size.photos)
    validated = _seconds("gallery_embeddings", small, large)[0]["photo"]
    trained = large.measured.seconds_per_trained_photo
    rest = max(0.0, epoch - trained * held.trained - validated * held.validated)
    rates = {"trained photo": trained, "validated photo": validated, "epoch": rest}
    return rates, max(0.0, large.single_epoch.seconds - epoch)


def _comparison_seconds(width: int) -> float:
    """The time in which FAISS compares two vectors, when many queries search at once."""
    random = np.random.default_rng(0)
    index = faiss.IndexFlatIP(width)
    index.add(random.standard_normal((COMPARED_VECTORS, width), dtype=np.float32))
    queries = random.standard_normal((COMPARING_QUERIES, width), dtype=np.float32)
    index.search(queries, 1)
    began = time.monotonic()
    index.search(queries, 20)
    return (time.monotonic() - began) / (COMPARED_VECTORS * COMPARING_QUERIES)
