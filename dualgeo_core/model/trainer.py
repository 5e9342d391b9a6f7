"""Training of one variant: returns a finished run, resumes an unfinished one."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line, read_json
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.model.checkpoints import other_settings
from dualgeo_core.model.interruption import Interruption, TrainingInterruptedError
from dualgeo_core.model.recipe import model_artifact, training_recipe
from dualgeo_core.model.training_run import CHECKPOINT, RESULT, OnMetrics, TrainingRun, unfinished_run
from dualgeo_core.settings import Profile, Representation
from dualgeo_core.views.store import Views

if TYPE_CHECKING:
    from dualgeo_core.model.augmentation import AugmentedEncoding


@dataclass(frozen=True)
class TrainingResult:
    """The result of a finished run: the folder of the best epoch's model, and its validation recall."""

    folder: str
    step: int
    best_step: int
    validation: dict[str, float]
    retrieval_weights: dict[str, float]


# How torch's messages about a killed reader, and about too little memory for its batches, begin.
NO_READER = ("DataLoader worker", "unable to allocate shared memory")


def train(
    *,
    views: Views,
    profile: Profile,
    variant: Representation,
    folder: Path,
    relit: Sequence[Views] = (),
    augmented: "AugmentedEncoding | None" = None,
    give_up_others: bool = False,
    on_metrics: OnMetrics = lambda step, metrics: None,
    progress: Progress = silent,
) -> TrainingResult:
    """Trains one variant, writes its best epoch's model to `folder` and returns the result.

    A finished run of the same recipe is returned without training. Batches come from `views` and their `relit` copies,
    or from `augmented` if `training.recompute` is set. Validation reads `views` and the first relit copy. Checkpoints
    are in `<folder>.partial`, from which an unfinished run resumes. If `give_up_others` is set, an unfinished run with
    other settings is deleted.

    Raises InputError if the unfinished run has other settings, the loss is not finite, or memory runs out. Raises
    TrainingInterruptedError after SIGTERM or Ctrl-C, once a checkpoint is saved.
    """
    if profile.training.recompute and augmented is None:
        raise InputError("training.recompute is true, but only cached features are available; set it to false")
    contents = [copy.fingerprint for copy in relit]
    artifact = model_artifact(folder, profile=profile, variant=variant, views=views.fingerprint, relit=contents)
    recipe = training_recipe(profile, variant) | {"views": views.fingerprint, "relit": contents}
    if not artifact.is_current():
        if give_up_others:
            _delete_other_run(unfinished_run(folder), recipe)
        try:
            with Interruption() as interruption:
                run = TrainingRun(views, relit, augmented, profile, variant, folder, recipe, interruption)
                run.train(on_metrics, progress)
                run.finish(artifact)
            if interruption.requested:
                raise TrainingInterruptedError(
                    f"training {variant} was stopped on request after its last step; its model is saved"
                )
        except (RuntimeError, MemoryError) as error:
            if str(error).startswith(NO_READER):
                raise InputError(
                    f"the processes that read batches for training {variant} failed ({one_line(error)}): lower "
                    "training.readers, or give the container more shared memory (docker run --shm-size)"
                ) from None
            if not _out_of_memory(error):
                raise
            raise InputError(
                f"out of memory while training {variant} with batches of {profile.training.batch_size}: lower "
                f"training.batch_size first, then model.width, model.label_grid or training.gps_queue ({error})"
            ) from None
    return TrainingResult(folder=str(folder), **read_json(folder / RESULT))


def _delete_other_run(unfinished: Path, recipe: dict[str, Any]) -> None:
    from accelerate import PartialState

    if PartialState().is_main_process and other_settings(unfinished / CHECKPOINT, recipe=recipe):
        shutil.rmtree(unfinished)
    PartialState().wait_for_everyone()  # no process may read the folder before the main process has deleted it


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; on the CPU torch raises a plain RuntimeError then."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
