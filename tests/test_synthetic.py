"""The synthetic Earth: reproducible bytes, separate photographers, aligned label maps, appearance by place."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualgeo_core.base.geo import haversine_km
from dualgeo_core.earth.canvas import CLASSES, LABEL, Camera, Canvas
from dualgeo_core.earth.geography import choose_cells, sun_position
from dualgeo_core.earth.ingest import PARTS, ingest_synthetic
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.settings import EarthPart, EarthSettings, PhotoSource

EARTH = EarthSettings(seed=5, countries=3, cities=2, cells=2, image_size=96)


def make(folder: Path, part: EarthPart, photos: int, earth: EarthSettings = EARTH, workers: int = 1) -> Photos:
    out = folder / f"{part}_{photos}_{workers}"
    ingest_synthetic(earth=earth, part=part, photos=photos, out=out, workers=workers)
    return open_photos(PhotoSource(photo_set=out.name), folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[EarthPart, Photos]:
    folder = tmp_path_factory.mktemp("earth")
    return {part: make(folder, part, 48 if part == "gallery" else 18) for part in PARTS}


def pixels(photos: Photos, column: str = "image") -> np.ndarray:
    """Photos of shape (n, size, size, 3), or label maps of shape (n, size, size)."""
    images = [data for shard in photos.shards(column) for data in shard.images]
    if column == "image":
        return np.stack([np.asarray(decode_image(data), np.float32) for data in images])
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in images])


def test_two_processes_draw_the_same_bytes_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make(tmp_path, "night", 20, workers=1).folder
    monkeypatch.setattr("dualgeo_core.earth.ingest.POOL_FROM", 0)
    together = make(tmp_path, "night", 20, workers=2).folder
    assert [path.read_bytes() for path in sorted(alone.iterdir())] == [
        path.read_bytes() for path in sorted(together.iterdir())
    ]


def test_another_seed_is_another_earth(tmp_path: Path, parts: dict[EarthPart, Photos]) -> None:
    other = make(tmp_path, "gallery", 8, EARTH.model_copy(update={"seed": 6}))
    assert set(other.frame["cell"]) != set(parts["gallery"].frame["cell"])


def test_gallery_and_queries_share_streets_but_no_photographer(parts: dict[EarthPart, Photos]) -> None:
    gallery = parts["gallery"].frame
    for part in PARTS[1:]:
        queries = parts[part].frame
        assert set(queries["cell"]) <= set(gallery["cell"])
        assert not set(queries["author"]) & set(gallery["author"])
        assert not set(queries["id"]) & set(gallery["id"])


def test_several_photographers_take_several_photos_of_every_street(parts: dict[EarthPart, Photos]) -> None:
    streets = parts["gallery"].frame.groupby("cell")
    assert (streets.size() == 4).all()
    assert (streets["author"].nunique() >= 2).all()


def test_places_are_real_and_streets_are_told_apart_at_1_km(parts: dict[EarthPart, Photos]) -> None:
    frame = parts["gallery"].frame
    streets = frame.groupby("cell")[["latitude", "longitude"]].mean()
    within = haversine_km(
        frame["latitude"],
        frame["longitude"],
        streets.loc[frame["cell"], "latitude"].to_numpy(),
        streets.loc[frame["cell"], "longitude"].to_numpy(),
    )
    assert within.max() < 0.31
    latitude, longitude = streets["latitude"].to_numpy(), streets["longitude"].to_numpy()
    apart = haversine_km(latitude[:, None], longitude[:, None], latitude, longitude)
    assert apart[~np.eye(len(streets), dtype=bool)].min() > 1
    import reverse_geocode

    named = reverse_geocode.search(list(zip(latitude, longitude, strict=True)))
    assert [place["country_code"] for place in named] == [key[:2] for key in streets.index]


def test_label_maps_lie_pixel_on_pixel_on_their_photos(parts: dict[EarthPart, Photos]) -> None:
    photos, labels = pixels(parts["gallery"]), pixels(parts["gallery"], "label_map")
    assert labels.shape == photos.shape[:3]
    assert labels.max() < len(CLASSES)
    seen = np.unique(labels)
    assert {LABEL[name] for name in ("sky", "ground", "road", "line", "building", "window", "sign")} <= set(seen)
    sky, red, blue = labels == LABEL["sky"], photos[..., 0], photos[..., 2]
    assert (blue - red)[sky].mean() > 25  # blue above
    assert abs((blue - red)[labels == LABEL["road"]].mean()) < 20  # grey below
    # Edges of the picture lie on edges of the map: shifted by a few pixels they no longer do.
    edges = np.abs(np.diff(photos.mean(axis=3), axis=2))
    boundary = np.diff(labels.astype(int), axis=2) != 0
    shifted = np.roll(boundary, 4, axis=2)
    assert edges[boundary].mean() > 1.5 * edges[shifted & ~boundary].mean()


def test_each_shifted_part_differs_in_what_its_name_says(parts: dict[EarthPart, Photos]) -> None:
    gallery = parts["gallery"].frame
    assert set(gallery["weather"]) <= {"clear", "cloudy"}
    assert (gallery["season"] == "summer").mean() > 0.7
    assert not gallery["night"].any()
    assert set(parts["same_weather"].frame["weather"]) <= {"clear", "cloudy"}
    assert set(parts["other_weather"].frame["weather"]) <= {"overcast", "rain", "fog", "snow"}
    assert parts["night"].frame["night"].all()
    assert set(parts["other_season"].frame["season"]) <= {"winter", "autumn"}


def test_weather_and_night_change_the_colours(parts: dict[EarthPart, Photos]) -> None:
    brightness = {part: pixels(parts[part]).mean() for part in PARTS}
    assert brightness["night"] < 0.6 * brightness["gallery"]
    day, grey = pixels(parts["gallery"]), pixels(parts["other_weather"])
    colourfulness = [np.ptp(photos, axis=3).mean() for photos in (day, grey)]
    assert colourfulness[1] < 0.7 * colourfulness[0]


def test_a_street_looks_like_itself(parts: dict[EarthPart, Photos]) -> None:
    """Maps of the same street by different photographers agree more than those of different streets."""
    labels, cells = pixels(parts["gallery"], "label_map"), parts["gallery"].frame["cell"].to_numpy()
    coarse = labels[:, ::6, ::6].reshape(len(labels), -1)
    agreement = (coarse[:, None] == coarse).mean(axis=2)
    same = (cells[:, None] == cells) & ~np.eye(len(cells), dtype=bool)
    assert agreement[same].mean() > agreement[cells[:, None] != cells].mean() + 0.05


@pytest.mark.parametrize(
    ("latitude", "day", "hour", "altitude", "azimuth"),
    [
        (0.0, 80, 12, 90, None),  # equinox, equator, noon
        (51.5, 172, 12, 90 - 51.5 + 23.4, 180),  # London, midsummer noon: in the south
        (-33.9, 355, 12, 90 - 33.9 + 23.4, 0),  # Sydney, midsummer noon: in the north
        (51.5, 172, 0, -(90 - 51.5 - 23.4), 0),
        (40.0, 80, 6, 0, 90),  # equinox, sunrise in the east
        (40.0, 80, 18, 0, 270),
    ],
)
def test_the_sun_stands_where_it_should(
    latitude: float, day: float, hour: float, altitude: float, azimuth: float | None
) -> None:
    found_altitude, found_azimuth = sun_position(latitude, day, hour)
    assert found_altitude == pytest.approx(altitude, abs=1)
    if azimuth is not None:
        assert abs((found_azimuth - azimuth + 180) % 360 - 180) < 2


def test_countries_keep_their_side_of_the_road() -> None:
    cells = choose_cells(seed=7, countries=27, cities=3, cells=4)
    sides = {cell.city.country.code: cell.city.country.drives_left for cell in cells}
    assert sides["JP"]
    assert not sides["US"]
    scripts = {cell.city.country.code: cell.city.country.script for cell in cells}
    assert (scripts["EG"], scripts["UA"], scripts["FR"]) == ("arabic", "cyrillic", "latin")


def test_a_camera_sees_far_things_small_and_nothing_behind_it() -> None:
    canvas = Canvas(Camera(size=64, x=0, y=1.6, z=0, yaw=0, roll=0, focal=0.9, horizon=0.5))
    canvas.upright((-2, 0, 10), 1, 3, (200, 0, 0), "sign", 1.0)
    canvas.upright((2, 0, 30), 1, 3, (0, 200, 0), "person", 1.0)
    canvas.upright((0, 0, -10), 9, 9, (0, 0, 200), "vehicle", 1.0)
    labels = np.asarray(canvas.facts)[..., 0]
    near, far = (labels == LABEL["sign"]).sum(), (labels == LABEL["person"]).sum()
    assert near == pytest.approx(9 * far, rel=0.35)
    assert not (labels == LABEL["vehicle"]).any()
