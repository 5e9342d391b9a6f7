"""The `dualgeo` commands of this package: run, ui, doctor, versions, promote, rollback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dualgeo_core.commands.options import PROFILE_HELP, ProfileOption
from dualgeo_core.settings import load_settings

if TYPE_CHECKING:
    from dualgeo_dagster.mlflow.registry import Registry

Reason = Annotated[str, typer.Option(help="Reason, shown by `dualgeo versions`.")]


def run(profile: ProfileOption = None) -> None:
    """Runs the whole graph of a profile as one Dagster run, and prints the scores.

    Finished steps are reused if nothing they depend on has changed. Exit code 2: a user error; the last line says how
    to fix it. Exit code 1: any other failure.
    """
    load_settings(profile)  # a wrong name is refused before the libraries are loaded
    from dualgeo_dagster.commands.run import run_everything

    raise typer.Exit(run_everything(profile))


def ui(
    profiles: Annotated[
        list[str] | None,
        typer.Option("--profile", help=f"{PROFILE_HELP} Repeat the option for several.", show_default="demo"),
    ] = None,
    dagster_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Dagster's web page.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow's web page.")] = 5000,
) -> None:
    """Serves Dagster's and MLflow's web pages until Ctrl-C. Each profile is a separate code location.

    A server that ends is restarted, at most five times within ten minutes. Exit code 1: a server did not start, or
    ended too often.
    """
    from dualgeo_dagster.commands.ui import show_pages

    raise typer.Exit(show_pages(profiles, dagster_port=dagster_port, mlflow_port=mlflow_port))


def doctor(profile: ProfileOption = None) -> None:
    """Shows what is installed, what each profile has, whether MLflow and Dagster answer, and what to run next."""
    from dualgeo_dagster.commands.doctor import findings

    for subject, found in findings(profile):
        typer.echo(f"{subject}: {found}")


def versions(
    profile: ProfileOption = None,
    prune: Annotated[
        int | None,
        typer.Option(
            metavar="KEEP",
            min=1,
            help="First delete old versions with their files. The newest KEEP, the champion, the challenger, the best "
            "champion so far and the version that `dualgeo rollback` restores are kept.",
        ),
    ] = None,
) -> None:
    """Lists all versions of a profile's model, and why the current champion was chosen."""
    with _registry(profile) as registry:
        from dualgeo_dagster.mlflow.locators import forget
        from dualgeo_dagster.mlflow.registered_model import BEST, CHALLENGER, CHAMPION

        for version in registry.prune(prune) if prune is not None else ():
            forget(load_settings(profile), version)
            typer.echo(f"{registry.model} version {version}  deleted")
        aliases = {alias: registry.version_of(alias) for alias in (CHAMPION, CHALLENGER, BEST)}
        for version in registry.versions():
            names = ", ".join(alias for alias, points_to in aliases.items() if points_to == version)
            typer.echo(f"{registry.model} version {version}  {names}".rstrip())
        for promotion in registry.trail():
            place = f"replaced {promotion.replaced}" if promotion.replaced else "was the first"
            typer.echo(f"{promotion.when}  {promotion.version} {place}, by {promotion.by}: {promotion.reason}")


def promote(
    version: Annotated[str, typer.Argument(help="Version number of the new champion.")],
    profile: ProfileOption = None,
    reason: Reason = "by hand",
) -> None:
    """Makes a version the champion, regardless of the automatic comparison.

    `dualgeo locate` and the registered model answer from it at once.
    """
    with _registry(profile) as registry:
        from dualgeo_dagster.mlflow.locators import bring_into_service
        from dualgeo_dagster.mlflow.registered_model import CHAMPION

        if registry.version_of(CHAMPION) == version:  # an earlier attempt may have failed after it moved the alias
            bring_into_service(registry, load_settings(profile))
        promotion = registry.promote(version, reason=reason)
        bring_into_service(registry, load_settings(profile))
    typer.echo(f"version {promotion.version} is now the champion; before: {promotion.replaced or 'none'}")


def rollback(profile: ProfileOption = None, reason: Reason = "by hand") -> None:
    """Restores the previous champion. `dualgeo locate` and the registered model answer from it at once."""
    with _registry(profile) as registry:
        from dualgeo_dagster.mlflow.locators import bring_into_service

        promotion = registry.rollback(reason=reason)
        bring_into_service(registry, load_settings(profile))
    typer.echo(f"version {promotion.version} is the champion again; before: {promotion.replaced}")


@contextmanager
def _registry(profile: str | None) -> "Iterator[Registry]":
    """The registered model of a profile. Raises InputError if MLflow does not answer or its database is locked."""
    settings = load_settings(profile)  # a wrong name is refused before the libraries are loaded
    from dualgeo_dagster.mlflow.registry import Registry
    from dualgeo_dagster.mlflow.store import outages_as_input_errors, tracking_store
    from dualgeo_dagster.settings import keep_libraries_quiet

    keep_libraries_quiet()
    with outages_as_input_errors():
        yield Registry(tracking_store(settings.home).tracking_uri, profile=settings.profile.name)
