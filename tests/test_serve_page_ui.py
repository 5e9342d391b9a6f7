"""A person drops a photo on the page of `dualgeo serve` and reads the answer, at desktop and at phone width."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Home
from service_processes import Service, free_port

from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings

pytestmark = pytest.mark.ui
SERIOUS = ("serious", "critical")
DROP = """([name, base64]) => {
    const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
}"""


@pytest.fixture(scope="module")
def address(graph_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service on the graph's home."""
    port = free_port()
    service = Service(
        *(sys.executable, "-m", "dualgeo_core.cli", "serve", "--profile", "tiny", f"--port={port}"),
        log=tmp_path_factory.mktemp("serve") / "serve.log",
        environment=graph_home.environment,
        cwd=graph_home.path,
    )
    try:
        service.wait_until_up(f"http://127.0.0.1:{port}/readyz")
        yield f"http://127.0.0.1:{port}"
    finally:
        service.stop()


@pytest.fixture
def photos(graph_home: Home, tmp_path: Path) -> list[Path]:
    """Two photos of a benchmark."""
    found = Workspace(load_settings("tiny", home=graph_home.path)).photos("by_day")
    paths = []
    for photo_id in found.frame["id"][:2]:
        (tmp_path / f"{photo_id}.jpg").write_bytes(found.image(photo_id))
        paths.append(tmp_path / f"{photo_id}.jpg")
    return paths


@pytest.fixture
def opened(page: Any, address: str) -> Any:
    """The page. Anything that the browser refuses or that fails is an error, and so is a request to another host."""
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("console", lambda message: message.type == "error" and pytest.fail(message.text))
    page.on("request", lambda request: request.url.startswith((address, "data:", "blob:")) or pytest.fail(request.url))
    page.goto(address)
    return page


def require_accessible(page: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    serious = [f"{found['id']}: {found['nodes'][0]['html']}" for found in violations if found["impact"] in SERIOUS]
    assert serious == []


@pytest.mark.parametrize("width", [1400, 390])
def test_a_dropped_photo_is_answered_on_a_map(opened: Any, photos: list[Path], width: int) -> None:
    page = opened
    page.set_viewport_size({"width": width, "height": 900})
    require_accessible(page)
    page.evaluate(DROP, [photos[0].name, base64.b64encode(photos[0].read_bytes()).decode()])
    page.get_by_text("1 photo on the map.").wait_for()

    assert page.locator(".dg-detail h2").text_content() == photos[0].name
    assert "9 times out of 10" in page.locator(".dg-headline").text_content()
    assert page.locator(".dg-evidence img").count() > 0, "candidates have pictures where the gallery is local"
    for view in range(2):
        assert (
            page.locator("canvas")
            .nth(view)
            .evaluate(
                "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(x => x)"
            )
        )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    link = page.get_by_role("link", name="Open in OpenStreetMap").get_attribute("href")
    assert link.startswith("https://www.openstreetmap.org/?mlat=")
    require_accessible(page)


def test_several_photos_by_keyboard_and_a_bad_one(opened: Any, photos: list[Path], tmp_path: Path) -> None:
    page = opened
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    page.get_by_label("Drop photos here").set_input_files([*photos, tmp_path / "bad.jpg"])
    page.get_by_text("2 photos on the map.").wait_for()
    assert "bad.jpg" in page.locator("#errors").text_content()
    second = page.locator(".dg-list button").nth(1)
    second.focus()
    page.keyboard.press("Enter")
    assert second.get_attribute("aria-pressed") == "true"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download GeoJSON").press("Enter")
    assert "FeatureCollection" in Path(download.value.path()).read_text()
    require_accessible(page)


def test_the_documentation_of_the_api_is_served_from_here(opened: Any, address: str) -> None:
    opened.goto(f"{address}/docs")
    opened.get_by_text("/locate").first.wait_for()
