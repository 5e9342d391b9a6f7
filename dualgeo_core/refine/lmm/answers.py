"""The multimodal model's answers as a profile gets them: replayed from a file, asked for, or none."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.refine.tables import read_answers
from dualgeo_core.settings import LmmSettings

ANSWER_COLUMNS = (
    "id",
    "model",
    "sample",
    "latitude",
    "longitude",
    "location",
    "granularity",
    "evidence",
    "status",
    "reason",
)


def gather_answers(
    *,
    ids: Sequence[str],
    image: Callable[[str], Image.Image],
    candidates: pd.DataFrame,
    settings: LmmSettings,
    cluster_radius_km: float,
    replies: Path | None,
    progress: Progress = silent,
) -> tuple[pd.DataFrame | None, dict[str, float]]:
    """Answers about `ids` and counts (see `ask_photos`).

    The answers come from `settings.answers_file` or from `settings.model`; they are None if neither is set.
    """
    if settings.answers_file is not None:
        answers = read_answers(Path(settings.answers_file))
        return answers[answers["id"].isin(ids)], {}
    if settings.model is None:
        return None, {}
    from dualgeo_core.refine.lmm.ask import ask_photos  # imports LiteLLM, which takes seconds

    return ask_photos(
        ids=ids,
        image=image,
        candidates=candidates,
        settings=settings,
        cluster_radius_km=cluster_radius_km,
        replies=replies,
        progress=progress,
    )
