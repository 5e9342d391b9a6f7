"""Options that several commands share, and what they select."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualgeo_core.base.errors import InputError

if TYPE_CHECKING:
    from dualgeo_core.settings import AnsweringSettings

PROFILE_HELP = "Name of a profile under profiles/, or path of a YAML file."
ProfileOption = Annotated[str | None, typer.Option("--profile", help=PROFILE_HELP, show_default="demo")]
VersionOption = Annotated[
    str | None,
    typer.Option("--version", metavar="NUMBER", help="Registered version that answers.", show_default="the champion"),
]


def chosen_locator(settings: "AnsweringSettings", version: str | None) -> Path | None:
    """The locator folder of a registered version; without a version, the one in service. None for a profile of places.

    Raises InputError if there is no such version.
    """
    from dualgeo_core.settings import Settings

    if not isinstance(settings, Settings):
        if version is not None:
            raise InputError(f"profile {settings.profile.name} has no registered versions; leave out --version")
        return None
    if version is None:
        return settings.locator_in_service
    # The package that keeps registered versions builds on this one and names its function in its metadata.
    for registry in entry_points(group="dualgeo.registry"):
        folder: Path = registry.load()(settings, version)
        return folder
    raise InputError("--version needs a model registry, and none is installed; run `make setup`")
