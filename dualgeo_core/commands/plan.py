"""`dualgeo plan`: the time, disk, memory and cost of a run before it starts."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualgeo_core.commands.options import ProfileOption

if TYPE_CHECKING:
    from dualgeo_core.planning.rates import Rates
    from dualgeo_core.settings import Settings

QUERIES_PER_BENCHMARK = 3000
# With fewer photos, too few are held out to fit a refiner in the smaller pass.
CALIBRATION, LEAST_CALIBRATION = 384, 360


def plan(
    profile: ProfileOption = None,
    photos: Annotated[
        int | None, typer.Option(min=100, help="Number of gallery photos.", show_default="those of the gallery")
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1, help="Queries of all benchmarks together.", show_default=f"{QUERIES_PER_BENCHMARK} per benchmark"
        ),
    ] = None,
    rates: Annotated[
        Path | None,
        typer.Option(help="Rates of another machine: its artifacts/PROFILE/rates.json.", show_default="this machine's"),
    ] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this machine's rates again.")] = False,
    calibration_photos: Annotated[
        int, typer.Option(min=LEAST_CALIBRATION, help="Photos of the calibration; more measure longer and better.")
    ] = CALIBRATION,
    photo_kb: Annotated[
        float | None,
        typer.Option(min=0.1, help="Mean size of a photo's file (kB).", show_default="that of the calibration"),
    ] = None,
    price_per_hour: Annotated[
        list[float] | None, typer.Option(min=0, help="Price of the machine per hour; repeat it to compare.")
    ] = None,
) -> None:
    """Predicts time, disk, memory and cost of every asset of a profile, and says what limits each.

    Rates are measured in a calibration, on photos of the gallery, or on drawn ones if it is not here. It takes about
    two minutes for the profile `demo` on two cores, and is kept in artifacts/PROFILE/rates.json. It runs without being
    asked if there are no rates of this machine and these settings. Times assume that assets are made one after the
    other, all epochs are trained, and no multimodal model is asked.
    """
    from dualgeo_core.pipeline.workspace import GALLERY, Workspace
    from dualgeo_core.planning.plan import plan as predict
    from dualgeo_core.planning.rates import read_rates
    from dualgeo_core.planning.tables import duration, origin, plan_text
    from dualgeo_core.planning.work import Size
    from dualgeo_core.settings import load_settings

    settings = load_settings(profile)
    size = Size(
        photos=photos or len(Workspace(settings).photos(GALLERY)),
        queries=queries or QUERIES_PER_BENCHMARK * len(settings.profile.photos.benchmarks),
    )
    if rates:
        found = read_rates(rates, settings.profile)
    else:
        found = _own_rates(settings, photos=calibration_photos, again=calibrate)
    predicted = predict(settings.profile, found, size, photo_bytes=photo_kb * 1000 if photo_kb else None)
    typer.echo(f"profile {settings.profile.name}, {size.photos} gallery photos, {size.queries} queries")
    typer.echo(f"rates: {origin(found)}")
    for line in plan_text(predicted):
        typer.echo(line)
    for price, cost in zip(price_per_hour or (), predicted.costs(price_per_hour or ()), strict=True):
        typer.echo(f"cost at {price:g} per hour: {cost:.2f} for {duration(predicted.seconds)}")
    free = shutil.disk_usage(settings.home).free
    if not rates and predicted.disk > free:
        typer.echo(f"disk: {predicted.disk / 1e9:.0f} GB are needed, and {free / 1e9:.0f} GB are free here")


def _own_rates(settings: "Settings", *, photos: int, again: bool) -> "Rates":
    """The rates of this machine, from a calibration if there are none or it is to be made again."""
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.planning.calibration import calibrate
    from dualgeo_core.planning.rates import known_rates, rates_file, write_rates

    rates = None if again else known_rates(settings)
    if rates is None:
        typer.echo("calibrating: all steps run on a few hundred photos", err=True)
        rates = calibrate(settings, photos=photos, progress=spoken(lambda line: typer.echo(line, err=True)))
        write_rates(rates_file(settings), rates)
        typer.echo(f"calibrated in {rates.seconds:.0f} s: {rates_file(settings)}", err=True)
    return rates
