"""`dualgeo locate`: the estimated positions of photos, from the latest model of a profile."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from PIL.Image import Image

    from dualgeo_core.answering.locator import Answer

SHOWN_CANDIDATES = 5
PHOTOS_AT_ONCE = 16


def locate(
    photos: Annotated[
        list[Path], typer.Argument(help="Photos to locate: JPEG, PNG, HEIC or WebP.", show_default=False)
    ],
    profile: Annotated[
        str | None, typer.Option(help="Name of a file in profiles/, or path of a YAML file.", show_default="demo")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per photo, one per line.")] = False,
    lmm: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also ask this multimodal model (LiteLLM name, e.g. gemini/gemini-2.0-flash). It receives the photo.",
            show_default="the profile's",
        ),
    ] = None,
) -> None:
    """Locates photos and prints position, place, radius, and the most similar gallery photos.

    Uses the latest model of the profile, and the same method as for the profile's benchmarks. Ignores the position in a
    photo's EXIF. Example: dualgeo locate --profile folder photo.jpg
    """
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    workspace = Workspace(load_settings(profile))
    for path in photos:
        _read_photo(path)  # refuses an unreadable photo before models are loaded and answers are printed

    from dualgeo_core.answering.locator import Locator

    locator = Locator(workspace.locator, lmm_model=lmm, replies=workspace.lmm_replies)
    if locator.lmm.model:
        where = f" at {locator.lmm.api_base}" if locator.lmm.api_base else ""
        receivers = ", if that fails to ".join((f"{locator.lmm.model}{where}", *locator.lmm.fallbacks))
        typer.echo(f"Sends each photo, without its metadata, to {receivers}.", err=True)
    for start in range(0, len(photos), PHOTOS_AT_ONCE):
        paths = photos[start : start + PHOTOS_AT_ONCE]
        answers = locator.locate(names=[str(path) for path in paths], images=[_read_photo(path) for path in paths])
        for answer in answers:
            typer.echo(json.dumps(answer.as_json()) if as_json else _as_text(answer))


def _read_photo(path: Path) -> "Image":
    from dualgeo_core.base.errors import InputError
    from dualgeo_core.photos.decode import UndecodableImage, decode_image
    from dualgeo_core.photos.image_files import read_photo

    try:
        return decode_image(read_photo(path))
    except FileNotFoundError:
        raise InputError(f"there is no photo {path}; correct the path") from None
    except (OSError, UndecodableImage) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} is not a readable photo ({reason}); give a JPEG, PNG, HEIC or WebP file") from None


def _as_text(answer: "Answer") -> str:
    lines = [f"{answer.photo}"]
    if answer.latitude is None or answer.longitude is None:
        return f"{answer.photo}\n  no position: {answer.status}"
    lines.append(f"  {answer.latitude:.5f}, {answer.longitude:.5f}  {answer.place}")
    if answer.radius_90_km is None:
        lines.append("  radius: not calibrated")
    else:
        lines.append(
            f"  50 % radius {_km(answer.radius_50_km)}; 90 % radius {_km(answer.radius_90_km)}; "
            f"within 25 km: {answer.confidence_25km:.0%}"
        )
    for candidate in answer.candidates[:SHOWN_CANDIDATES]:
        place = f"{candidate.latitude:.4f}, {candidate.longitude:.4f}"
        lines.append(f"  similar: {candidate.gallery_id} ({place}; similarity {candidate.similarity:.3f})")
    return "\n".join(lines)


def _km(distance_km: float | None) -> str:
    assert distance_km is not None, "a posterior has both radii or neither"
    if distance_km < 1:
        return f"{1000 * distance_km:.0f} m"
    return f"{distance_km:,.0f} km" if distance_km >= 10 else f"{distance_km:.1f} km"
