"""The path from a photo's views to its answer: retrieve candidates, ask the multimodal model, refine.

The pipeline calls the three steps one by one and stores a table after each. `Answerer.answer` runs all three and
gives the same numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.refine.album.predict import album_mixtures, album_part_of, albums_of
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import gather_evidence
from dualgeo_core.refine.lmm.answers import gather_answers
from dualgeo_core.refine.mixtures import Mixture, mixtures_of
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import Refiner
from dualgeo_core.settings import AnsweringProfile, RefineMethod


class Queries(Protocol):
    """Photos in the form in which a retriever takes them. Row i belongs to `frame.iloc[i]` (column id)."""

    @property
    def frame(self) -> pd.DataFrame: ...


Asked = TypeVar("Asked", bound=Queries)
Taken = TypeVar("Taken", bound=Queries, contravariant=True)


class FindsCandidates(Protocol[Taken]):
    """What finds the candidates of photos: a gallery's retriever, or that of places."""

    def candidates(self, queries: Taken, rows: NDArray[np.int64] | None = None) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Answered:
    """Candidates and predictions of all queries, with the columns of `Answerer.candidates` and `.predictions`.

    The predictions name no clusters. `answers` are the multimodal model's, None without one.
    """

    candidates: pd.DataFrame
    answers: pd.DataFrame | None
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Answerer(Generic[Asked]):
    """Answers queries with the methods of a profile.

    Index, refiner and density are opened at first use. The LMM's replies are stored in the folder `replies`.
    """

    profile: AnsweringProfile
    open_retriever: Callable[[], FindsCandidates[Asked]]
    open_refiner: Callable[[], Refiner]
    open_density: Callable[[], PhotoDensity]
    replies: Path | None

    def answer(
        self, queries: Asked, image: Callable[[str], Image.Image], albums: pd.DataFrame | None = None
    ) -> Answered:
        """Candidates and predictions of all `queries`; `image(id)` returns the upright photo of a query.

        The photos of an album are located together if there are `albums`, a table as `read_albums` returns it.
        """
        ids = queries.frame["id"].tolist()
        candidates = self.candidates(queries)
        answers, _ = self.answers(ids=ids, image=image, candidates=candidates)
        predictions = self.predictions(
            candidates=candidates,
            answers=answers,
            ids=ids,
            method=None if albums is None else "album",
            albums=albums,
            with_clusters=False,
        )
        return Answered(candidates, answers, predictions)

    def mixtures(self, answered: Answered, ids: Sequence[str], albums: pd.DataFrame | None = None) -> list[Mixture]:
        """The posterior of each of `ids` as kernels, for maps; of photos in `albums` together."""
        evidence = gather_evidence(candidates=answered.candidates, answers=answered.answers, ids=ids)
        if albums is not None:
            together = albums_of(albums, ids, part=album_part_of(self._refiner))
            return album_mixtures(evidence, together, refiner=self._refiner, density=self._density)
        return mixtures_of(evidence, refiner=self._refiner, density=self._density)

    def candidates(self, queries: Asked, rows: NDArray[np.int64] | None = None) -> pd.DataFrame:
        """The candidates of `rows` of `queries` (all by default), with the columns of its retriever."""
        return self._retriever.candidates(queries, rows)

    def answers(
        self,
        *,
        ids: Sequence[str],
        image: Callable[[str], Image.Image],
        candidates: pd.DataFrame,
        progress: Progress = silent,
    ) -> tuple[pd.DataFrame | None, dict[str, float]]:
        """The LMM's answer for each photo, and counts. The answers are None if the profile has no LMM."""
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
        albums: pd.DataFrame | None = None,
        with_clusters: bool = True,
        progress: Progress = silent,
    ) -> pd.DataFrame:
        """The predicted position of each of `ids`, by `method` (default: the profile's refinement method).

        The method `album` also reads `albums`.
        """
        return predict(
            candidates=candidates,
            answers=answers,
            method=method or self.profile.refinement.method,
            params=self._refiner,
            settings=self.profile.refinement,
            ids=ids,
            density=self._density,
            albums=albums,
            with_clusters=with_clusters,
            progress=progress,
        )

    @cached_property
    def _retriever(self) -> FindsCandidates[Asked]:
        return self.open_retriever()

    @cached_property
    def _refiner(self) -> Refiner:
        return self.open_refiner()

    @cached_property
    def _density(self) -> PhotoDensity:
        return self.open_density()
