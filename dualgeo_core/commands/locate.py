"""`dualgeo locate`: where photos were taken, by the latest model of a profile."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from PIL.Image import Image

    from dualgeo_core.locate import Answer

SHOWN_CANDIDATES = 5
PHOTOS_AT_ONCE = 16


def locate(
    photos: Annotated[list[Path], typer.Argument(help="Photos to locate: JPEG, PNG or HEIC.", show_default=False)],
    profile: Annotated[str | None, typer.Option(help="A name under profiles/, or a path to a YAML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per photo and line.")] = False,
) -> None:
    """Tells where photos were taken: position, place, radius, and the gallery photos most like them.

    It uses what the profile's graph made last (`make demo`, or Dagster). A photo's own EXIF position is not looked at.
    """
    from dualgeo_core.settings import load_settings
    from dualgeo_core.workspace import Workspace

    for path in photos:
        _read_photo(path)  # one that cannot be read stops all, before models are loaded and anything is told

    from dualgeo_core.locate import Locator

    locator = Locator(Workspace(load_settings(profile)).locator)
    for start in range(0, len(photos), PHOTOS_AT_ONCE):
        paths = photos[start : start + PHOTOS_AT_ONCE]
        answers = locator.locate(names=[str(path) for path in paths], images=[_read_photo(path) for path in paths])
        for answer in answers:
            typer.echo(json.dumps(answer.as_json()) if as_json else _told(answer))


def _read_photo(path: Path) -> "Image":
    from dualgeo_core.errors import InputError
    from dualgeo_core.photos.decode import UndecodableImage, decode_image

    try:
        return decode_image(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"there is no photo {path}") from None
    except (OSError, UndecodableImage) as error:
        raise InputError(f"{path} is not a photo that can be read ({error}); give JPEG, PNG or HEIC files") from None


def _told(answer: "Answer") -> str:
    lines = [f"{answer.photo}"]
    if answer.latitude is None or answer.longitude is None:
        return f"{answer.photo}\n  no position: {answer.status}"
    lines.append(f"  {answer.latitude:.5f}, {answer.longitude:.5f}  {answer.place}")
    if answer.radius_90_km is None:
        lines.append("  radius: not calibrated")
    else:
        lines.append(
            f"  half the time within {_km(answer.radius_50_km)} km, 9 times in 10 within {_km(answer.radius_90_km)} km"
        )
    for candidate in answer.candidates[:SHOWN_CANDIDATES]:
        place = f"{candidate.latitude:.4f}, {candidate.longitude:.4f}"
        lines.append(f"  like gallery photo {candidate.gallery_id} ({place}; similarity {candidate.similarity:.3f})")
    return "\n".join(lines)


def _km(distance_km: float | None) -> str:
    assert distance_km is not None, "a posterior has both radii or neither"
    return f"{distance_km:,.0f}" if distance_km >= 10 else f"{distance_km:.2g}"
