"""`dualgeo train`: trains one representation; as it stands the command for accelerate and torchrun, too."""

import json
from typing import Annotated

import typer

from dualgeo_core.settings import Representation


def train(
    representation: Annotated[
        Representation | None,
        typer.Argument(help="What to train; by default the profile's main representation.", show_default=False),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="A name under profiles/, or a path to a YAML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Metrics as one JSON object per line on stdout.")] = False,
) -> None:
    """Trains a representation on the gallery's cached features and masks.

    A run that was killed goes on from its last checkpoint; a finished one is left as it is. On several processes:

        accelerate launch --num-processes 8 -m dualgeo_core.cli train cross_attention --profile paper

        torchrun --nproc-per-node 8 -m dualgeo_core.cli train cross_attention --profile paper
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
                f"step {step}: loss {metrics['loss']:.3f}, held-out photographers' recall@1 "
                f"{metrics['validation_recall_1km']:.3f} within 1 km, {metrics['validation_recall_25km']:.3f} in 25 km"
            )

    try:
        progress = spoken(lambda line: typer.echo(line, err=True))
        result = make_model(workspace, variant, on_metrics=report, progress=progress)
    except TrainingInterruptedError as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(STOPPED) from None
    if PartialState().is_main_process:
        typer.echo(
            f"{result.folder}: best after step {result.best_step} of {result.step}; recall@1 of held-out "
            f"photographers {result.validation['recall_25km']:.3f} within 25 km",
            err=as_json,
        )
