"""`python -m dualgeo_dagster.training_process`: trains all representations, telling Dagster (Pipes) and MLflow.

It needs no Dagster: without Pipes in its environment it trains just the same.
"""

import sys
import time

from dagster_pipes import PipesContext, open_dagster_pipes

from dualgeo_core.errors import InputError
from dualgeo_core.settings import keep_libraries_quiet, load_settings
from dualgeo_core.workspace import GALLERY, Workspace


def main() -> None:
    keep_libraries_quiet()
    with open_dagster_pipes() as pipes:
        try:
            _train_all(Workspace(load_settings()), pipes)
        except InputError as error:
            pipes.log.error(str(error))
            sys.exit(2)


def _train_all(workspace: Workspace, pipes: PipesContext) -> None:
    import torch
    from mlflow.entities import Metric

    from dualgeo_core.loading import open_augmentation, views_of
    from dualgeo_core.model.fusion import model_fingerprint
    from dualgeo_core.model.trainer import train
    from dualgeo_core.progress import spoken
    from mlflow import MlflowClient

    torch.set_num_threads(workspace.profile.threads)
    client = MlflowClient(tracking_uri=pipes.get_extra("tracking_uri"))
    run_id = pipes.get_extra("mlflow_run_id")
    views = views_of(workspace, GALLERY)
    augmented = open_augmentation(workspace)
    for representation in workspace.profile.model.variants:
        if representation == "encoder":
            continue

        def log(step: int, metrics: dict[str, float], representation: str = representation) -> None:
            now = int(time.time() * 1000)
            named = [Metric(f"training/{representation}/{key}", value, now, step) for key, value in metrics.items()]
            client.log_batch(run_id, metrics=named)

        trained = train(
            views=views,
            profile=workspace.profile,
            variant=representation,
            folder=workspace.model(representation),
            augmented=augmented,
            on_metrics=log,
            progress=spoken(pipes.log.info),
        )
        pipes.report_custom_message(
            {
                "representation": representation,
                "validation": trained.validation,
                "fingerprint": model_fingerprint(workspace.model(representation)),
            }
        )


if __name__ == "__main__":
    main()
