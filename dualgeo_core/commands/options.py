"""Options that several commands share, and what they select."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualgeo_core.base.errors import InputError

if TYPE_CHECKING:
    from dualgeo_core.settings import Settings

PROFILE_HELP = "Name of a profile under profiles/, or path of a YAML file."
ProfileOption = Annotated[str | None, typer.Option("--profile", help=PROFILE_HELP, show_default="demo")]
VersionOption = Annotated[
    str | None,
    typer.Option("--version", metavar="NUMBER", help="Registered version that answers.", show_default="the champion"),
]


def chosen_locator(settings: "Settings", version: str | None) -> Path:
    """The locator folder of a registered version; without a version, the one in service.

    Raises InputError if there is no such version.
    """
    if version is None:
        return settings.locator_in_service
    # The package that keeps registered versions builds on this one and names its function in its metadata.
    for registry in entry_points(group="dualgeo.registry"):
        folder: Path = registry.load()(settings, version)
        return folder
    raise InputError("--version needs a model registry, and none is installed; run `make setup`")
