"""The command line `dualgeo`. Each command reads its options, calls one function of the core and prints the result."""

import gc
import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from dualgeo_core.base.errors import InputError
from dualgeo_core.commands.extract import extract
from dualgeo_core.commands.ingest import ingest
from dualgeo_core.commands.locate import locate
from dualgeo_core.commands.plan import plan
from dualgeo_core.commands.refine import evaluate, fit_refiner, refine
from dualgeo_core.commands.report import report
from dualgeo_core.commands.segmenter import train_segmenter
from dualgeo_core.commands.serve import serve
from dualgeo_core.commands.train import train
from dualgeo_core.commands.verify import verify

LASTING_OBJECTS = 50_000  # new objects between two searches for garbage

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rendering help with rich takes longer than everything else that help needs
    help="Estimates where on Earth a photo was taken, with a calibrated radius.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dualgeo {version('dualgeo')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of `dualgeo` itself."""


app.add_typer(ingest, name="ingest")
app.command("extract")(extract)
app.command("locate")(locate)
app.command("serve")(serve)
app.command("train")(train)
app.command("train-segmenter")(train_segmenter)
app.command("refine")(refine)
app.command("fit-refiner")(fit_refiner)
app.command("evaluate")(evaluate)
app.command("plan")(plan)
app.command("report")(report)
app.command("verify")(verify)
# Packages that build on this one add their own commands, for example those of the model registry.
for command in entry_points(group="dualgeo.commands"):
    app.command(command.name)(command.load())


def main() -> None:
    """Runs the command line. An InputError becomes one line on stderr and exit code 2."""
    # Libraries make hundreds of thousands of objects that last until the end. Searching them for garbage again and
    # again, and once more at the end, takes a third of the time of a short command.
    gc.set_threshold(LASTING_OBJECTS)
    try:
        app()
    except InputError as error:
        print(f"dualgeo: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
