"""`dualgeo versions`, `promote` and `rollback`: the registered model by hand, with the trail kept."""

from typing import Annotated

import typer


def versions() -> None:
    """Lists the registered versions and the trail of promotions."""
    from dualgeo_dagster.registry import CHALLENGER, CHAMPION

    registry = _registry()
    aliases = {alias: registry.version_of(alias) for alias in (CHAMPION, CHALLENGER)}
    for version, profile in registry.profiles().items():
        names = ", ".join(alias for alias, points_to in aliases.items() if points_to == version)
        typer.echo(f"version {version}  of profile {profile}  {names}".rstrip())
    for promotion in registry.trail():
        place = f"in place of {promotion.replaced}" if promotion.replaced else "as the first"
        typer.echo(f"{promotion.when}  {promotion.version} {place}, by {promotion.by}: {promotion.reason}")


def promote(
    version: Annotated[str, typer.Argument(help="The version to serve from now on.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept in the trail.")] = "by hand",
) -> None:
    """Makes a version the champion, whatever the tests say."""
    promotion = _registry().promote(version, reason=reason)
    typer.echo(f"version {promotion.version} is champion in place of {promotion.replaced or 'none'}")


def rollback(reason: Annotated[str, typer.Option(help="Why; it is kept in the trail.")] = "by hand") -> None:
    """Makes the version that the champion replaced champion again."""
    promotion = _registry().rollback(reason=reason)
    typer.echo(f"version {promotion.version} is champion again in place of {promotion.replaced}")


def _registry():  # type: ignore[no-untyped-def]
    from dualgeo_core.settings import Environment, keep_libraries_quiet
    from dualgeo_dagster.registry import Registry
    from dualgeo_dagster.tracking_store import require_answer, tracking_store

    keep_libraries_quiet()
    tracking_uri = tracking_store(Environment().home).tracking_uri
    require_answer(tracking_uri)
    return Registry(tracking_uri)
