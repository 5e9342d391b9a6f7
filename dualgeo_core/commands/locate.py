"""`dualgeo locate`: the estimated positions of photos, from the champion of a profile."""

import glob
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.progress import spoken
from dualgeo_core.commands.downloads import confirm_downloads
from dualgeo_core.commands.locate_album import album_answers
from dualgeo_core.commands.locate_output import Output
from dualgeo_core.commands.locate_sidecars import remove_written_sidecar, write_sure_sidecar
from dualgeo_core.commands.options import ProfileOption, VersionOption, chosen_locator
from dualgeo_core.commands.streams import READER_LEFT, tell

if TYPE_CHECKING:
    from dualgeo_core.answering.answers import Answer
    from dualgeo_core.answering.base_locator import BaseLocator

PHOTOS_AT_ONCE = 16


def locate(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO_OR_FOLDER...",
            help="Photos (JPEG, PNG, HEIC, WebP), folders, or patterns such as 'trip/*.jpg'.",
            show_default=False,
        ),
    ],
    profile: ProfileOption = None,
    version: VersionOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per photo, one per line.")] = False,
    geojson: Annotated[
        Path | None, typer.Option("--geojson", metavar="FILE", help="Also write the answers as GeoJSON.")
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", metavar="FILE.html", help="Also write a map that works without a network.")
    ] = None,
    album: Annotated[
        bool,
        typer.Option(
            "--album",
            help="Locate the photos of each camera together, by their times. A photo with GPS of its own helps.",
        ),
    ] = False,
    max_risk: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.999, help="Abstain so that at most this share of answers is over 25 km off."),
    ] = None,
    even_unlike: Annotated[
        bool,
        typer.Option("--even-unlike", help="Give a position to photos unlike the gallery, too. It is mostly wrong."),
    ] = False,
    write_sidecar: Annotated[
        bool, typer.Option("--write-sidecar", help="Write each sure position to PHOTO.xmp; photos stay unchanged.")
    ] = False,
    sidecar_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Smallest probability of an error under 25 km for a sidecar.")
    ] = 0.8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name the sidecars, and change none.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Remove what --write-sidecar wrote next to these photos; locate nothing.")
    ] = False,
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

    Uses the champion of the profile, or another registered version, by the same method as for the profile's
    benchmarks. Ignores the position in a photo's EXIF, except with --album. A photo that cannot be read is one line
    on stderr; the others are located, and the exit code is 2. If the reader of the answers leaves, as `head` does, the
    files that were asked for are still written, and the exit code is 141.
    Example: dualgeo locate --profile folder --map map.html trip/
    """
    from dualgeo_core.settings import load_answering_settings

    if dry_run and not (write_sidecar or undo):
        raise InputError("--dry-run needs --write-sidecar or --undo; add one of them, or leave it out")
    settings = load_answering_settings(profile)
    output = Output(as_json=as_json, geojson=geojson, map_file=map_file)
    paths, missing = _photo_paths(photos)
    failed = _report(missing)
    if undo:
        failed += sum(_report([remove_written_sidecar(path, dry_run=dry_run)]) for path in paths)
    elif paths:
        from dualgeo_core.answering.opening import locator_opener

        folder = chosen_locator(settings, version)
        confirm_downloads(settings)
        locator = locator_opener(
            settings,
            folder=folder,
            lmm_model=lmm,
            max_risk=max_risk,
            even_unlike=even_unlike,
            progress=spoken(tell),
        )()
        if (write_sidecar or album) and not locator.is_calibrated:
            raise InputError(
                f"profile {settings.profile.name} is not calibrated, so it writes no sidecars and locates no albums; "
                "leave out --write-sidecar and --album"
            )
        for doubt in locator.doubts:
            tell(f"Note: {doubt}.")
        _say_where_photos_go(locator)
        spread = map_file is not None
        located = (
            album_answers(locator, paths, spread=spread, tell=tell)
            if album
            else _answers(locator, paths, spread=spread)
        )
        for path, answer, camera in located:
            if isinstance(answer, InputError):
                failed += _report([str(answer)])
                continue
            output.add(answer, camera)
            if write_sidecar:
                reason = write_sure_sidecar(path, answer, least_confidence=sidecar_confidence, dry_run=dry_run)
                failed += _report([reason])
            elif output.is_in_vain:
                break
        output.finish(settings)
    if failed:
        raise typer.Exit(2)
    if output.reader_left:
        raise typer.Exit(READER_LEFT)


def _photo_paths(named: list[str]) -> tuple[list[Path], list[str]]:
    """The photos of files, folders and patterns, each once and in order, and a message for each name without any."""
    from dualgeo_core.photos.ids import shown_id
    from dualgeo_core.photos.listing import list_folder

    found: dict[Path, None] = {}
    missing = []
    for name in named:
        path = Path(name)
        if path.is_dir():
            below = [path / photo for photo in list_folder(path).photos]
            if not below:
                missing.append(f"{shown_id(name)} has no photos; name a folder with JPEG, PNG, HEIC or WebP files")
        elif path.exists() or path.is_symlink() or not glob.has_magic(name):
            below = [path]
        else:
            below = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]  # noqa: PTH207 - absolute patterns, too
            if not below:
                missing.append(f"no photo matches {shown_id(name)}; correct the pattern")
        found.update(dict.fromkeys(below))
    return list(found), missing


def _answers(
    locator: "BaseLocator", paths: list[Path], *, spread: bool
) -> Iterator[tuple[Path, "Answer | InputError", None]]:
    """The answer for each photo, or why it cannot be read, in order, and no album.

    Photos are decoded while others are located.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool, _progress(len(paths)) as advance:
        upcoming = pool.submit(_decoded, paths[:PHOTOS_AT_ONCE])
        for start in range(0, len(paths), PHOTOS_AT_ONCE):
            chunk = upcoming.result()
            upcoming = pool.submit(_decoded, paths[start + PHOTOS_AT_ONCE : start + 2 * PHOTOS_AT_ONCE])
            readable = [(path, image) for path, image in chunk if not isinstance(image, InputError)]
            answers = iter(
                locator.locate_images(
                    names=[str(path) for path, _ in readable], images=[image for _, image in readable], spread=spread
                )
            )
            for path, image in chunk:
                yield path, image if isinstance(image, InputError) else next(answers), None
                advance()


def _decoded(paths: list[Path]) -> list[tuple[Path, Any]]:
    """Each photo's upright pixels, or the InputError that says why there are none."""
    from dualgeo_core.answering.photo_inputs import upright_rgb

    decoded: list[tuple[Path, Any]] = []
    for number, path in enumerate(paths):
        try:
            decoded.append((path, upright_rgb(path, number=number)[1]))
        except InputError as error:
            decoded.append((path, error))
    return decoded


def _progress(total: int) -> Any:
    """A context that gives a function to call after each photo; a bar on stderr if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if total <= PHOTOS_AT_ONCE or not console.is_terminal:
        return nullcontext(lambda: None)
    columns = (TextColumn("locate"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("locate", total=total)

    class Advancing:
        def __enter__(self) -> Any:
            bar.start()
            return lambda: bar.advance(task)

        def __exit__(self, *error: object) -> None:
            bar.stop()

    return Advancing()


def _report(messages: Sequence[str | None]) -> int:
    """Prints each message on stderr; returns how many there are."""
    failures = [message for message in messages if message is not None]
    for message in failures:
        tell(f"dualgeo: {message}")
    return len(failures)


def _say_where_photos_go(locator: "BaseLocator") -> None:
    if locator.lmm.model:
        where = f" at {locator.lmm.api_base}" if locator.lmm.api_base else ""
        receivers = ", if that fails to ".join((f"{locator.lmm.model}{where}", *locator.lmm.fallbacks))
        tell(f"Sends each photo, without its metadata, to {receivers}.")
