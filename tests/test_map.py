"""The map: one file without other hosts, right at the poles and the antimeridian, usable by pointer and keyboard."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SCREENSHOTS
from made_answers import PLACES, made_answer, unplaced_answer
from PIL import Image

from dualgeo_core.answering.answers import Answer
from dualgeo_core.answering.spread import spread_of
from dualgeo_core.maps.page import map_page
from dualgeo_core.maps.records import map_record, no_thumbnail
from dualgeo_core.photos.thumbnails import thumbnail_jpeg

ANSWER = (179, 38, 30)  # the colour of the answer's star and circles
TRUTH = (0, 107, 79)


def page_of(*answers: Answer, title: str = "Map") -> str:
    records = [map_record(answer, candidate_thumbnail=no_thumbnail) for answer in answers]
    return map_page(records, title=title)


def test_the_page_loads_nothing_and_names_of_photos_stay_text() -> None:
    name = "</script><script>alert(1)</script>.jpg"
    text = page_of(made_answer(*PLACES["paris"], photo=name), title=name)

    body = text[text.index("<main") :]
    assert name not in body
    assert "<title>&lt;/script&gt;" in text
    assert not re.search(r"""(src|href)\s*=|@import|url\(|fetch\(|import\(""", body.split('id="data"')[0])
    assert not re.search(r"https?://", re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S))


def test_a_thumbnail_has_no_metadata_and_at_most_its_side() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret"
    image = Image.new("RGB", (300, 200))
    image.info["exif"] = exif.tobytes()
    data = thumbnail_jpeg(image)
    assert b"secret" not in data
    assert b"Exif" not in data
    assert len(data) < 5000


def test_a_photo_without_evidence_has_no_spread() -> None:
    import pandas as pd

    from dualgeo_core.refine.mixtures import Mixture

    empty = Mixture(np.zeros((0, 3)), np.zeros((0, 7), dtype=np.float32), 1.0)
    assert spread_of(empty, pd.DataFrame(), cluster_radius_km=25) is None


@pytest.fixture
def opened(page: Any, tmp_path: Path) -> Any:
    """`opened(answers)`: the browser's page with the map of these answers; fails on any error of the script."""

    def open_map(*answers: Answer) -> Any:
        (tmp_path / "map.html").write_text(page_of(*answers), encoding="utf-8")
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto((tmp_path / "map.html").as_uri())
        page.locator("canvas").nth(1).wait_for()
        return page

    return open_map


def pixels_of(page: Any, view: int, name: str) -> Any:
    """The pixels of a view (rows, columns, 3), which are also kept as a screenshot."""
    path = SCREENSHOTS / f"map {name} {view}.png"
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.locator("canvas").nth(view).screenshot(path=path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def stars(page: Any, view: int, name: str) -> list[float]:
    """The columns with the answer's colour, as shares of the width of a view."""
    pixels = pixels_of(page, view, name)
    columns = np.flatnonzero((np.abs(pixels - np.array(ANSWER)).sum(axis=2) < 60).any(axis=0))
    return [float(column / pixels.shape[1]) for column in columns]


@pytest.mark.ui
@pytest.mark.parametrize("name", PLACES)
def test_poles_and_antimeridian_look_right(opened: Any, name: str) -> None:
    """The local view centres the answer with closed circles; in the world no circle is drawn across the map."""
    page = opened(made_answer(*PLACES[name], radius_km=100))
    columns = stars(page, 1, name)
    assert min(columns) == pytest.approx(1 - max(columns), abs=0.02), "the dashed circle is centred"
    assert max(columns) - min(columns) > 0.5
    across = stars(page, 0, name)
    drawn = len(across) / page.locator("canvas").nth(0).bounding_box()["width"]
    if name in ("paris", "fiji"):
        assert drawn < 0.1, "a circle that crosses the edge of the map is not drawn through its middle"


@pytest.mark.ui
def test_the_outlines_hold_half_and_nine_tenths_of_the_posterior(opened: Any) -> None:
    page = opened(made_answer(*PLACES["fiji"]))
    held = page.evaluate(
        """() => {
            const {spread} = JSON.parse(document.getElementById("data").textContent).records[0];
            const kernels = DualGeoMap.kernelsOf(spread, 0.2);
            const levels = DualGeoMap.borders(kernels, [0.5, 0.89]);
            const near = DualGeoMap.around(-16.8, 179.99);
            const held = [0, 0];
            for (let x = -60; x < 60; x += 0.4) for (let y = -60; y < 60; y += 0.4) {
                const density = DualGeoMap.densityAt(kernels, ...near.inverse(x, y));
                levels.forEach((level, index) => { if (density >= level) held[index] += density * 0.16; });
            }
            return held;
        }"""
    )
    assert held == pytest.approx([0.5, 0.89], abs=0.06)


@pytest.mark.ui
def test_300_metres_can_be_seen_and_keys_move_the_map(opened: Any) -> None:
    page = opened(made_answer(*PLACES["paris"]))
    local = page.locator("canvas").nth(1)
    local.focus()
    for _ in range(14):
        page.keyboard.press("+")
    before = local.screenshot()
    page.keyboard.press("ArrowLeft")
    assert local.screenshot() != before
    for _ in range(20):
        page.keyboard.press("+")
    assert "Paris" not in local.get_attribute("aria-label")
    assert "Within 8.0 km, 9 times out of 10" in local.get_attribute("aria-label")


@pytest.mark.ui
def test_several_photos_are_listed_surest_first_and_filtered(opened: Any) -> None:
    page = opened(
        made_answer(*PLACES["paris"], photo="sure.jpg", radius_km=1, confidence=0.95),
        unplaced_answer(),
        made_answer(*PLACES["fiji"], photo="unsure.jpg", radius_km=300, confidence=0.4),
    )
    names = page.locator(".dg-list b")
    assert names.all_text_contents() == ["sure.jpg", "unsure.jpg", "unplaced.jpg"]
    page.get_by_role("button", name="unsure.jpg").click()
    assert page.locator(".dg-detail h2").text_content() == "unsure.jpg"
    page.get_by_role("slider").fill("50")
    assert sum(name.is_visible() for name in names.all()) == 1
    page.get_by_role("button", name="sure.jpg", exact=False).first.click()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.ui
def test_places_as_candidates_and_radii_that_are_not_calibrated_are_named_so(opened: Any) -> None:
    """The profile `world`: no gallery photos, and no promise about the radii."""
    answer = made_answer(*PLACES["paris"])
    places = [replace(candidate, gallery_id=None) for candidate in answer.candidates]
    page = opened(replace(answer, candidates=places, calibrated=False))
    assert page.get_by_role("heading", name="Most similar places").is_visible()
    assert "48.8" in page.locator(".dg-evidence li").first.text_content()
    assert page.locator(".dg-headline").text_content() == "Somewhere, Earth. Within 8.0 km (not calibrated)."
    assert "9 times out of 10" not in page.locator("body").inner_text()
    assert page.get_by_text("Similar place", exact=True).is_visible()


@pytest.mark.ui
@pytest.mark.parametrize(("degrees_off", "said", "in_view"), [(0.1, "11 km", True), (20, "2,224 km", False)])
def test_a_known_place_is_marked_and_in_the_local_view_if_it_is_near(
    page: Any, tmp_path: Path, degrees_off: float, said: str, in_view: bool
) -> None:
    latitude, longitude = PLACES["paris"]
    record = map_record(
        made_answer(latitude, longitude, radius_km=0.5),
        candidate_thumbnail=no_thumbnail,
        truth=(latitude - degrees_off, longitude),
    )
    (tmp_path / "map.html").write_text(map_page([record], title="Query"), encoding="utf-8")
    page.goto((tmp_path / "map.html").as_uri())
    page.get_by_text(f"True place: {said} from the answer.").wait_for()
    page.get_by_text("True place", exact=True).wait_for()
    green = np.abs(pixels_of(page, 1, f"truth {said}") - np.array(TRUTH)).sum(axis=2) < 60
    assert bool(green.any()) == in_view


@pytest.mark.ui
def test_an_album_is_a_path_that_fills_the_view_and_cameras_are_not_joined(page: Any, tmp_path: Path) -> None:
    places = [(48.86, 2.29), (45.76, 4.84), (43.7, 7.27), (50.85, 4.35)]
    cameras = ["one", "one", "one", "two"]
    answers = [made_answer(*place, photo=f"{number}.jpg", radius_km=5) for number, place in enumerate(places)]
    records = [
        {**map_record(answer, candidate_thumbnail=no_thumbnail), "album": camera}
        for answer, camera in zip(answers, cameras, strict=True)
    ]
    (tmp_path / "map.html").write_text(map_page(records, title="Album"), encoding="utf-8")
    page.goto((tmp_path / "map.html").as_uri())
    page.get_by_text("Path of each camera").wait_for()
    span_km, drawn = page.evaluate(
        """() => {
            const {records, coastlines} = JSON.parse(document.getElementById("data").textContent);
            const {globe} = DualGeoMap.show(document.getElementById("map"), records, coastlines);
            return [globe.spanKm, globe.scene().paths.map(path => path.length)];
        }"""
    )
    assert span_km < 3000, "the album fills the view"
    assert drawn == [3, 1]
