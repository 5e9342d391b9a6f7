"""What all locators share: photos in, answers out. A locator says what its queries and candidates are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pandas as pd
from PIL import Image

from dualgeo_core.answering.answerer import Answered, Answerer
from dualgeo_core.answering.answers import Answer, answer_of
from dualgeo_core.answering.photo_inputs import PhotoInput, upright_rgb
from dualgeo_core.answering.reasons import missing_evidence
from dualgeo_core.answering.spread import Spread, spread_of
from dualgeo_core.base.errors import InputError
from dualgeo_core.refine.evidence import usable_answers
from dualgeo_core.refine.refiner import Refiner
from dualgeo_core.refine.tables import seconds_since_1970
from dualgeo_core.settings import AnsweringProfile, LmmSettings, RefinementSettings

AnyProfile = TypeVar("AnyProfile", bound=AnsweringProfile)


class BaseLocator(ABC):
    """Locates photos by the answerer of a subclass. `fingerprint` identifies models, candidates and settings."""

    candidates_are: str  # what the candidates of this locator are, in the singular

    def __init__(self, *, answerer: Answerer[Any], refiner: Refiner, shown_candidates: int, fingerprint: str) -> None:
        self._answerer, self._refiner = answerer, refiner
        self._shown_candidates = shown_candidates
        self.fingerprint = fingerprint

    @abstractmethod
    def _queries(self, ids: list[str], images: Sequence[Image.Image]) -> Any:
        """The form of upright RGB photos in which the answerer's retriever takes them."""

    @property
    @abstractmethod
    def doubts(self) -> tuple[str, ...]:
        """What the calibration cannot vouch for, one line each."""

    @property
    def lmm(self) -> LmmSettings:
        """The multimodal model that photos are sent to; its `model` is None if no photo is sent."""
        return self._answerer.profile.lmm

    @property
    def is_calibrated(self) -> bool:
        """Whether radii and confidences are calibrated on photos with known places."""
        return self._refiner.alone.calibration.photographers > 0

    @overload  # a str is one path, though it is a sequence of str
    def locate(self, photos: PhotoInput, *, spread: bool = False) -> Answer: ...  # type: ignore[overload-overlap]

    @overload
    def locate(self, photos: Sequence[PhotoInput], *, spread: bool = False) -> list[Answer]: ...

    def locate(self, photos: PhotoInput | Sequence[PhotoInput], *, spread: bool = False) -> Answer | list[Answer]:
        """The answer for one photo, or one per photo of a sequence, in order.

        A photo is a path, the bytes of a file, or a PIL image. Its own GPS position is not read. With `spread`, an
        answer also holds what a map draws. Raises InputError, naming the photo, if one is unreadable.
        """
        if isinstance(photos, (str, bytes, Path, Image.Image)):
            return self.locate([photos], spread=spread)[0]
        named = [upright_rgb(photo, number=number) for number, photo in enumerate(photos)]
        return self.locate_images(
            names=[name for name, _ in named], images=[image for _, image in named], spread=spread
        )

    def locate_images(
        self, *, names: Sequence[str], images: Sequence[Image.Image], spread: bool = False
    ) -> list[Answer]:
        """One answer per upright RGB image, in their order; `names` become `Answer.photo`."""
        return self._located(names, images, albums=None, spread=spread)

    def locate_album(
        self,
        *,
        names: Sequence[str],
        images: Sequence[Image.Image],
        taken: Sequence[datetime | None],
        positions: Sequence[tuple[float, float] | None],
        spread: bool = False,
    ) -> list[Answer]:
        """As `locate_images`, for the photos of one camera, which are located together.

        `taken` are capture times; times without a zone count as UTC. A photo with a position (latitude, longitude) is
        an anchor: it helps the others, and its answer is that position with the status `anchor`.
        """
        known = [(np.nan, np.nan) if position is None else position for position in positions]
        albums = pd.DataFrame(
            {
                "id": _ids(names),
                "album": "album",
                "taken": list(map(seconds_since_1970, taken)),
                "latitude": [latitude for latitude, _ in known],
                "longitude": [longitude for _, longitude in known],
            }
        )
        return self._located(names, images, albums=albums, spread=spread)

    def _located(
        self, names: Sequence[str], images: Sequence[Image.Image], *, albums: pd.DataFrame | None, spread: bool
    ) -> list[Answer]:
        if not names:
            return []
        ids = _ids(names)
        answered = self._answerer.answer(
            self._queries(ids, images), image=lambda photo_id: images[int(photo_id)], albums=albums
        )
        similar = self._similar(answered, ids)
        spreads = self._spreads(answered, ids, similar, albums) if spread else [None] * len(ids)
        reasons = self._reasons(answered, ids, similar)
        predictions = [prediction for _, prediction in answered.predictions.iterrows()]
        return [
            answer_of(
                name,
                prediction,
                candidates=found,
                reason=reason,
                spread=drawn,
                locator=self.fingerprint,
                calibrated=self.is_calibrated,
            )
            for name, prediction, found, reason, drawn in zip(
                names, predictions, similar, reasons, spreads, strict=True
            )
        ]

    def _spreads(
        self, answered: Answered, ids: Sequence[str], similar: list[pd.DataFrame], albums: pd.DataFrame | None
    ) -> list[Spread | None]:
        radius = self._answerer.profile.refinement.cluster_radius_km
        mixtures = self._answerer.mixtures(answered, ids, albums)
        return [
            spread_of(mixture, found, cluster_radius_km=radius)
            for mixture, found in zip(mixtures, similar, strict=True)
        ]

    def _reasons(self, answered: Answered, ids: Sequence[str], similar: list[pd.DataFrame]) -> list[str | None]:
        """Which evidence is missing for each photo without a position; None for the others."""
        usable = [] if answered.answers is None else usable_answers(answered.answers)["id"].tolist()
        unanswered = [self._answerer.profile.lmm.enabled and photo_id not in usable for photo_id in ids]
        radius = self._answerer.profile.refinement.cluster_radius_km
        return [
            missing_evidence(status, found, cluster_radius_km=radius, unanswered=silent, candidate=self.candidates_are)
            if unplaced
            else None
            for status, unplaced, found, silent in zip(
                answered.predictions["status"],
                answered.predictions["latitude"].isna(),
                similar,
                unanswered,
                strict=True,
            )
        ]

    def _similar(self, answered: Answered, ids: Sequence[str]) -> list[pd.DataFrame]:
        """The most similar candidates of each of `ids`, best first."""
        similar = answered.candidates[answered.candidates["kind"] == "similar"]
        by_photo = dict(list(similar.groupby("id")))
        return [by_photo.get(photo_id, similar.iloc[:0]).head(self._shown_candidates) for photo_id in ids]


def _ids(names: Sequence[str]) -> list[str]:
    """Ids that are unique where names are not."""
    return [str(number) for number in range(len(names))]


def adjusted(profile: AnyProfile, *, lmm_model: str | None, max_risk: float | None, even_unlike: bool) -> AnyProfile:
    """The profile with these changes, and without `answers_file`, whose answers belong to other photos.

    With `even_unlike` no photo is refused because it is unlike the gallery.
    """
    lmm = profile.lmm if lmm_model is None else profile.lmm.asking(lmm_model)
    refinement = profile.refinement.model_dump()
    if even_unlike:
        refinement["least_likeness"] = 0.0
    if max_risk is not None and profile.refinement.method != "posterior":
        raise InputError(
            f"a maximum risk needs refinement.method posterior, and the profile has {profile.refinement.method}; "
            "leave out the maximum risk"
        )
    if max_risk is not None:
        refinement["max_risk"] = max_risk
    changes = {"lmm": lmm.model_copy(update={"answers_file": None}), "refinement": RefinementSettings(**refinement)}
    return profile.model_copy(update=changes)
