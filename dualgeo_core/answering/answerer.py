"""The one path from a photo's views to its answer: retrieve candidates, ask the multimodal model, refine.

The pipeline keeps a table after each step; `Answerer.answer` takes all three at once. Both give the same numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.lmm.ask import gather_answers
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import Refiner
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.settings import Profile, RefineMethod
from dualgeo_core.views.store import Views


@dataclass(frozen=True)
class Answered:
    """Per query its candidates and its prediction: tables of the columns that `candidates` and `predictions` give."""

    candidates: pd.DataFrame
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Answerer:
    """Answers as a profile says. A part is opened when a step first needs it; `replies` keeps the LMM's replies."""

    profile: Profile
    open_retriever: Callable[[], Retriever]
    open_refiner: Callable[[], Refiner]
    open_density: Callable[[], PhotoDensity]
    replies: Path | None

    def answer(self, queries: Views, image: Callable[[str], Image.Image]) -> Answered:
        """Candidates and predictions of all `queries`; `image(id)` gives a query's upright photo."""
        ids = queries.frame["id"].tolist()
        candidates = self.candidates(queries)
        answers, _ = self.answers(ids=ids, image=image, candidates=candidates)
        return Answered(candidates, self.predictions(candidates=candidates, answers=answers, ids=ids))

    def candidates(self, queries: Views, rows: NDArray[np.int64] | None = None) -> pd.DataFrame:
        """The candidates of `rows` of `queries` (all by default), as `Retriever.candidates` gives them."""
        return self._retriever.candidates(queries, rows)

    def answers(
        self,
        *,
        ids: Sequence[str],
        image: Callable[[str], Image.Image],
        candidates: pd.DataFrame,
        progress: Progress = silent,
    ) -> tuple[pd.DataFrame | None, dict[str, float]]:
        """What the profile's multimodal model says about each photo, with counts; None if the profile has none."""
        return gather_answers(
            ids=ids,
            image=image,
            candidates=candidates,
            settings=self.profile.lmm,
            cluster_radius_km=self.profile.refinement.cluster_radius_km,
            replies=self.replies,
            progress=progress,
        )

    def predictions(
        self,
        *,
        candidates: pd.DataFrame,
        answers: pd.DataFrame | None,
        ids: Sequence[str],
        method: RefineMethod | None = None,
        progress: Progress = silent,
    ) -> pd.DataFrame:
        """The place of each of `ids`, by the profile's refinement method or by another `method` to compare with."""
        return predict(
            candidates=candidates,
            answers=answers,
            method=method or self.profile.refinement.method,
            params=self._refiner,
            settings=self.profile.refinement,
            ids=ids,
            density=self._density,
            progress=progress,
        )

    @cached_property
    def _retriever(self) -> Retriever:
        return self.open_retriever()

    @cached_property
    def _refiner(self) -> Refiner:
        return self.open_refiner()

    @cached_property
    def _density(self) -> PhotoDensity:
        return self.open_density()
