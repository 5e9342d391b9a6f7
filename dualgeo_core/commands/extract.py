"""`dualgeo extract`: photos of a profile's benchmarks as files."""

from pathlib import Path
from typing import Annotated

import typer

from dualgeo_core.base.errors import InputError
from dualgeo_core.commands.options import ProfileOption


def extract(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the photos.")],
    benchmark: Annotated[
        str | None, typer.Option(help="Write the photos of this benchmark only.", show_default="all benchmarks")
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Writes the photos of a profile's benchmarks as files, a folder per photographer, to locate them as one's own.

    The files have the photographer and the time in their EXIF, and no position.
    Example: dualgeo extract photos
    """
    from dualgeo_core.photos.extract import extract_photos
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    workspace = Workspace(load_settings(profile))
    names = list(workspace.profile.photos.benchmarks)
    if benchmark is not None and benchmark not in names:
        raise InputError(
            f"profile {workspace.profile.name} has no benchmark {benchmark}; use one of: {', '.join(names)}"
        )
    counts = extract_photos([workspace.photos(name) for name in ([benchmark] if benchmark else names)], out)
    most = max(counts, key=lambda name: counts[name])
    typer.echo(f"{sum(counts.values())} photos of {len(counts)} photographers")
    typer.echo(f"{counts[most]} photos of one of them: {out / most}")
