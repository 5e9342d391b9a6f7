"""The map as one HTML file that works without any other file or host."""

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from dualgeo_core.maps.coast import coastlines

STATIC = resources.files("dualgeo_core.maps").joinpath("static")


def map_page(records: Sequence[Mapping[str, Any]], *, title: str, note: str = "") -> str:
    """A page with the map of all `records` (map_record). Raises ValueError if there are none."""
    if not records:
        raise ValueError("a map needs at least one answer")
    script, style = (STATIC.joinpath(name).read_text(encoding="utf-8") for name in ("map.js", "map.css"))
    data = _embedded({"records": list(records), "coastlines": swapped_coastlines()})
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>body {{ margin: 1rem auto; max-width: 90rem; padding: 0 1rem; }}
h1 {{ font: 600 1.3rem system-ui, sans-serif; }}
footer {{ color: #555; font: .85rem system-ui, sans-serif; }}
{style}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<main id="map"></main>
<footer>{html.escape(note)} Coastlines: Natural Earth. Place names: GeoNames (CC-BY 4.0).</footer>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
<script>
const data = JSON.parse(document.getElementById("data").textContent);
DualGeoMap.show(document.getElementById("map"), data.records, data.coastlines);
</script>
</body>
</html>
"""


def swapped_coastlines() -> list[list[tuple[float, float]]]:
    """The coastlines as lines of (latitude, longitude), as the script takes all positions."""
    return [[(latitude, longitude) for longitude, latitude in line] for line in coastlines()]


def _embedded(content: Any) -> str:
    """JSON that cannot end the element that holds it, whatever the names of photos are."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
