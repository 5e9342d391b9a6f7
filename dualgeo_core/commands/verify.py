"""`dualgeo verify`: whether every byte of a profile's data and artifacts is the one that was written."""

from typing import Annotated

import typer

from dualgeo_core.commands.options import ProfileOption


def verify(
    profile: ProfileOption = None,
    remove_damaged: Annotated[
        bool, typer.Option("--remove-damaged", help="Remove damaged files, so that the next run makes them again.")
    ] = False,
) -> None:
    """Checks photo sets and artifacts against their recorded digests, and names each damaged file.

    For each it lists what was made from the file, and prints the commands that repair it. Exit code 1 if a damaged file
    remains. Example: dualgeo verify --profile demo --remove-damaged && dualgeo run --profile demo
    """
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.pipeline import verification
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    workspace = Workspace(load_settings(profile))
    damages = verification.verify(workspace, progress=spoken(lambda line: typer.echo(line, err=True)))
    for damage in damages:
        affected = ", ".join(damage.dependents) or "nothing"
        typer.echo(f"{damage.path}: damaged or missing; made from it: {affected}")
    if not damages:
        typer.echo(f"profile {workspace.profile.name}: every file holds the bytes that were written")
        return
    remaining = verification.remove_damaged(damages) if remove_damaged else damages
    for damage in remaining:
        if damage.is_photo_set:
            typer.echo(f"repair: restore {damage.path.parent} from a backup, or ingest it again")
    command = f"dualgeo run --profile {workspace.profile.name}"
    if remove_damaged:
        typer.echo(f"{len(damages) - len(remaining)} damaged files removed; repair: {command}")
    else:
        typer.echo(f"repair: dualgeo verify --profile {workspace.profile.name} --remove-damaged && {command}")
    if remaining:
        raise typer.Exit(1)
