"""Photo sets of the synthetic Earth: photographer, journey, cell, time and weather of each photo.

These sets test the software. The pictures are drawings with simplified climates and street designs, so an accuracy
measured on them does not transfer to real photos (docs/datasets.md).
"""

import multiprocessing
import os
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint
from dualgeo_core.base.geo import destination
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.earth.canvas import Camera
from dualgeo_core.earth.geography import Cell, choose_cells, seeded, sun_position, temperature
from dualgeo_core.earth.light import Conditions, Lens, develop
from dualgeo_core.earth.scene import paint_scene
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter
from dualgeo_core.settings import EarthPart, EarthSettings

PARTS: tuple[EarthPart, ...] = get_args(EarthPart)
GALLERY_PHOTOGRAPHERS = 5  # who live in a city
TRAVELLING = 0.3  # share of the gallery's photos that visitors from any city of the country take
FIRST_YEAR, YEARS = 2004, 15
QUERY_PHOTOGRAPHERS = 2  # per country: they visit several cities, and none of them takes gallery photos
SHARD_PHOTOS = 256
POOL_FROM = 200  # number of photos from which worker processes are worth their start-up time

COLUMNS = {
    "label_map": pa.binary(),
    "country": pa.string(),
    "city": pa.string(),
    "cell": pa.string(),
    "weather": pa.string(),
    "season": pa.string(),
    "hour": pa.float64(),
    "night": pa.bool_(),
}


@dataclass(frozen=True)
class Shot:
    """One photo to be taken."""

    earth: EarthSettings
    part: EarthPart
    number: int
    cell: Cell
    neighbour_cities: tuple[str, ...]  # all cities of the cell's country


def ingest_synthetic(
    *,
    earth: EarthSettings,
    part: EarthPart,
    photos: int,
    out: Path,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes the photo set of one part and returns its manifest. The same arguments give the same bytes.

    In addition to the columns of every set, it has the true `label_map` (PNG of indices into canvas.CLASSES) and the
    conditions of each photo. Gallery and query parts share cells, but no photographers. Raises InputError if the part
    is unknown.
    """
    if part not in PARTS:
        raise InputError(f"the synthetic Earth has no part {part!r}; take one of: {', '.join(PARTS)}")
    cells = choose_cells(seed=earth.seed, countries=earth.countries, cities=earth.cities, cells=earth.cells)
    with _pool(photos, workers) as pool:
        writer = PhotoWriter(
            out=out,
            recipe=fingerprint("synthetic", earth.model_dump(), part, photos, _own_code()),
            entries=_shots(earth, part, photos, cells),
            read=take_photo,
            pool=pool,
            more_columns=COLUMNS,
            shard_photos=SHARD_PHOTOS,
            progress=progress,
        )
        return writer.write(max_quarantine_share=0.0)


def take_photo(shot: Shot) -> IngestedPhoto:
    """One drawn photo. All its randomness is seeded by the Earth's seed, the part and the number."""
    rng = seeded(shot.earth.seed, shot.part, shot.number)
    cell, city = shot.cell, shot.cell.city
    author = _author(shot, rng)
    forward = bool(rng.random() < 0.75)
    conditions = _conditions(cell, forward, shot.part, rng)
    camera, lens = _equipment(author, shot.earth.image_size, cell, rng)
    canvas = paint_scene(cell=cell, forward=forward, camera=camera, conditions=conditions, rng=rng)
    image, label_map = develop(canvas, conditions, lens, rng)
    latitude, longitude = destination(cell.latitude, cell.longitude, rng.uniform(0, 360), 0.15 * np.sqrt(rng.random()))
    facts = {
        "label_map": label_map,
        "country": city.country.code,
        "city": city.name,
        "cell": cell.key,
        "weather": conditions.weather,
        "season": conditions.season,
        "hour": round(conditions.hour, 2),
        "night": conditions.night,
    }
    return IngestedPhoto(
        id=f"{shot.part}-{shot.number:05d}",
        latitude=round(float(latitude), 6),
        longitude=round(float(longitude), 6),
        author=author,
        image=image,
        taken=_taken(author, cell, conditions),
        more=facts,
    )


def _author(shot: Shot, rng: np.random.Generator) -> str:
    """The photographer of a shot. Those of the gallery live in one city, and travel to others of their country."""
    country = shot.cell.city.country.code
    if shot.part != "gallery":
        return f"{country}-q{rng.integers(QUERY_PHOTOGRAPHERS)}"
    number, travels = rng.integers(GALLERY_PHOTOGRAPHERS), seeded(shot.earth.seed, "journey", shot.number)
    home = str(travels.choice(shot.neighbour_cities)) if travels.random() < TRAVELLING else shot.cell.city.name
    return f"{country}-{home}-g{number}"


def _taken(author: str, cell: Cell, conditions: Conditions) -> datetime:
    """The time of exposure. A photographer's journeys to different cities are mostly in different years."""
    year = FIRST_YEAR + int(seeded("journey", author, cell.city.name).integers(YEARS))
    local = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=int(conditions.day), hours=conditions.hour)
    return (local - timedelta(hours=cell.longitude / 15)).replace(microsecond=0)


def _shots(earth: EarthSettings, part: EarthPart, photos: int, cells: tuple[Cell, ...]) -> list[Shot]:
    """The photos to take, in a seeded order. Numbers of photos per cell differ by at most one."""
    rng = seeded(earth.seed, "order", part)
    rounds = -(-photos // len(cells))
    order = np.concatenate([rng.permutation(len(cells)) for _ in range(rounds)])[:photos]
    cities: dict[str, dict[str, None]] = {}
    for cell in cells:
        cities.setdefault(cell.city.country.code, {})[cell.city.name] = None
    return [
        Shot(earth, part, number, cells[row], tuple(cities[cells[row].city.country.code]))
        for number, row in enumerate(order)
    ]


def _conditions(cell: Cell, forward: bool, part: EarthPart, rng: np.random.Generator) -> Conditions:
    """Time and weather of a photo: mostly clear summer days. Each shifted part changes one condition, `mixed` all."""
    city = cell.city
    season = str(rng.choice(["summer", "spring", "autumn"], p=[0.84, 0.08, 0.08]))
    weather = str(rng.choice(["clear", "cloudy"], p=[0.65, 0.35]))
    hour = float(rng.uniform(8.5, 16.5))
    mixed = rng.random(3)
    if part == "other_season" or (part == "mixed" and mixed[0] < 0.4):
        season = str(rng.choice(["winter", "autumn"], p=[0.7, 0.3]))
    if part == "other_weather" or (part == "mixed" and mixed[1] < 0.6):
        weather = str(rng.choice(["overcast", "rain", "fog"], p=[0.35, 0.35, 0.3]))
    if part == "night" or (part == "mixed" and mixed[2] < 0.3):
        hour = float(rng.uniform(-2.5, 2.5)) % 24
        if abs(city.latitude) > 45 and season == "summer":  # there is no darkness in summer
            season, hour = "autumn", float(rng.uniform(-1, 1)) % 24
    northern_day = {"spring": 110, "summer": 200, "autumn": 290, "winter": 20}[season] + rng.uniform(-20, 20)
    day = float((northern_day + (0 if city.latitude >= 0 else 182.6)) % 365.25)
    if season == "winter":
        hour = float(np.clip(hour, 10, 14)) if 6 < hour < 18 else hour
    altitude, azimuth = sun_position(city.latitude, day, hour)
    cold = temperature(city, day) < 1
    if cold and weather == "rain":
        weather = "snow"
    bearing = azimuth - cell.heading - (0 if forward else 180)
    return Conditions(weather, season, day, hour, altitude, bearing, snow_cover=cold)


def _equipment(author: str, size: int, cell: Cell, rng: np.random.Generator) -> tuple[Camera, Lens]:
    """Camera and lens of a photo: properties of the photographer, and variations of this photo."""
    own = seeded("photographer", author)
    height, focal, warmth = own.uniform(1.5, 2.2), own.uniform(0.78, 0.95), own.normal(0, 0.05)
    noise, quality, contrast = own.uniform(0.005, 0.03), int(own.integers(55, 92)), own.uniform(0.9, 1.15)
    stand = seeded("stand", cell.key).uniform(-3.2, 3.2)
    camera = Camera(
        size=size,
        x=float(stand + rng.normal(0, 0.8)),
        y=float(height),
        z=float(rng.uniform(-3, 3)),
        yaw=float(np.radians(rng.normal(0, 6))),
        roll=float(np.radians(rng.normal(0, 1.5))),
        focal=float(focal * rng.uniform(0.92, 1.1)),
        horizon=float(rng.normal(0.6, 0.035)),
    )
    shift = warmth + rng.normal(0, 0.03)
    lens = Lens(
        white_balance=(float(1 + shift), 1.0, float(1 - shift)),
        exposure=float(rng.lognormal(0, 0.12)),
        contrast=float(contrast),
        noise=float(noise),
        vignette=float(own.uniform(0, 0.25)),
        blur=float(rng.choice([0.0, 0.5, 0.9], p=[0.7, 0.2, 0.1])),
        jpeg_quality=quality,
    )
    return camera, lens


def _pool(photos: int, workers: int | None) -> Executor:
    count = workers or len(os.sched_getaffinity(0))
    if photos < POOL_FROM or count == 1:
        return ThreadPoolExecutor(max_workers=1)
    # Spawned, not forked: forking is unsafe if the caller has threads (torch, a test runner).
    return ProcessPoolExecutor(max_workers=count, mp_context=multiprocessing.get_context("spawn"))


def _own_code() -> list[str]:
    """Digests of this package's code, so that a partial set drawn by other code is not resumed."""
    return [file_digest(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
