"""`dualgeo train`: trains one representation. Also runs under accelerate and torchrun."""

import json
from typing import Annotated

import typer

from dualgeo_core.commands.options import ProfileOption
from dualgeo_core.settings import Representation


def train(
    representation: Annotated[
        Representation | None,
        typer.Argument(
            help="Representation to train; default: the main representation of the profile.", show_default=False
        ),
    ] = None,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics to stdout, one JSON object per line.")] = False,
) -> None:
    """Trains a representation on the gallery's cached features and masks.

    An interrupted run resumes from its last checkpoint; a finished run is left unchanged. On several processes:

        accelerate launch --num-processes 8 -m dualgeo_core.cli train joint --profile paper

        torchrun --nproc-per-node 8 -m dualgeo_core.cli train joint --profile paper
    """
    from accelerate import PartialState

    from dualgeo_core.base.progress import spoken
    from dualgeo_core.model.interruption import STOPPED, TrainingInterruptedError
    from dualgeo_core.pipeline.stage1 import make_model
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    workspace = Workspace(load_settings(profile))
    variant = representation or workspace.profile.model.main

    def report(step: int, metrics: dict[str, float]) -> None:
        if as_json:
            typer.echo(json.dumps({"step": step, **metrics}))
        elif "validation_recall_25km" in metrics:
            typer.echo(
                f"step {step}: loss {metrics['loss']:.3f}; recall@1 on held-out photographers "
                f"{metrics['validation_recall_1km']:.3f} within 1 km, "
                f"{metrics['validation_recall_25km']:.3f} within 25 km"
            )

    try:
        progress = spoken(lambda line: typer.echo(line, err=True))
        result = make_model(workspace, variant, on_metrics=report, progress=progress)
    except TrainingInterruptedError as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(STOPPED) from None
    if PartialState().is_main_process:
        typer.echo(
            f"{result.folder}: best checkpoint at step {result.best_step} of {result.step}; recall@1 on held-out "
            f"photographers {result.validation['recall_25km']:.3f} within 25 km",
            err=as_json,
        )
