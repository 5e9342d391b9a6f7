"""What a profile downloads at its first use: said before it happens, and asked on a terminal."""

import sys
from typing import TYPE_CHECKING

import typer

from dualgeo_core.base.errors import InputError

if TYPE_CHECKING:
    from dualgeo_core.settings import AnsweringSettings

CLIP = "openai/clip-vit-large-patch14"
CLIP_FACTS = "1.7 GB, MIT licence, from huggingface.co"


def confirm_downloads(settings: "AnsweringSettings") -> None:
    """Says what a profile of places downloads, with sizes and licences, and asks on a terminal.

    Says nothing if all of it is on this machine. Raises InputError if the user declines, or the model hub cannot be
    reached.
    """
    from dualgeo_core.settings import PlacesSettings

    if not isinstance(settings, PlacesSettings):
        return
    from dualgeo_core.answering.place_locator import require_weights
    from dualgeo_core.views.pretrained import hub_fault, is_on_this_machine

    require_weights()
    encoder = settings.profile.encoder
    if is_on_this_machine(encoder.name, encoder.revision):
        return
    needed = f"{encoder.name} ({CLIP_FACTS})" if encoder.name == CLIP else encoder.name
    fault = hub_fault()
    if fault:
        raise InputError(
            f"profile {settings.profile.name} needs {needed}, which is not on this machine, and {fault}; "
            "connect once, or name a folder with the checkpoint in encoder.name"
        )
    typer.echo(f"Profile {settings.profile.name} downloads {needed}. This happens once.", err=True)
    if sys.stdin.isatty() and not typer.confirm("Download it now?", default=True, err=True):
        raise InputError("nothing was downloaded; name a folder with the checkpoint in encoder.name, or try again")
