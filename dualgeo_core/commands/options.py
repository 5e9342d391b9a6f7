"""Options that several commands share."""

from typing import Annotated

import typer

PROFILE_HELP = "Name of a profile under profiles/, or path of a YAML file."
ProfileOption = Annotated[str | None, typer.Option("--profile", help=PROFILE_HELP, show_default="demo")]
