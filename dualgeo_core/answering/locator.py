"""Locates photos: position, calibrated radii, confidence, and the most similar gallery photos."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from math import lcm
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dualgeo_core.answering.answerer import Answered, Answerer
from dualgeo_core.answering.answers import Answer, Candidate
from dualgeo_core.answering.locator_folder import (
    INDEX,
    MODEL,
    SEGMENTER,
    LocatorFolder,
    read_locator_folder,
)
from dualgeo_core.answering.photo_inputs import PhotoInput, upright_rgb
from dualgeo_core.answering.reasons import missing_evidence
from dualgeo_core.answering.spread import Spread, spread_of
from dualgeo_core.base.devices import choose_device
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.shards import ShardKey
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.refine.density import gallery_density
from dualgeo_core.refine.evidence import usable_answers
from dualgeo_core.refine.refiner import REFINER_FILE, load_refiner
from dualgeo_core.refine.tables import seconds_since_1970
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.settings import LmmSettings, Profile, RefinementSettings, load_settings
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.encoder import load_encoder
from dualgeo_core.views.segmenter import load_segmenter
from dualgeo_core.views.store import ViewBatch, Views

Item = TypeVar("Item")


class Locator:
    """Locates photos with the models of a locator folder.

    The models are loaded once. `lmm_model` replaces the profile's multimodal model, and `max_risk` its limit on wrong
    answers. The model's replies are stored in the folder `replies`. Raises InputError if a file has changed or a model
    does not match the index.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lmm_model: str | None = None,
        max_risk: float | None = None,
        replies: Path | None = None,
    ) -> None:
        self._packed = read_locator_folder(folder)
        self._profile = _adjusted(self._packed.profile, lmm_model=lmm_model, max_risk=max_risk)
        device = choose_device(self._profile.device, threads=self._profile.threads)
        self._encoder = load_encoder(self._profile.encoder, device=device)
        self._segmenter = load_segmenter(
            self._profile.segmenter, self._profile.encoder, folder=folder / SEGMENTER, device=device
        )
        self._require("encoder", self._encoder.fingerprint)
        self._require("segmenter", self._segmenter.fingerprint)
        retriever = _open_retriever(self._packed, device)
        density = gallery_density(retriever.gallery.frame)
        self._refiner = load_refiner(folder / REFINER_FILE)
        self._answerer = Answerer(
            profile=self._profile,
            open_retriever=lambda: retriever,
            open_refiner=lambda: self._refiner,
            open_density=lambda: density,
            replies=replies,
        )

    @classmethod
    def from_profile(
        cls, profile: str | None = None, *, lmm_model: str | None = None, max_risk: float | None = None
    ) -> "Locator":
        """The champion of a profile, given by name or path (default: DUALGEO_PROFILE, else `demo`)."""
        settings = load_settings(profile)
        return cls(settings.locator_in_service, lmm_model=lmm_model, max_risk=max_risk, replies=settings.lmm_replies)

    @property
    def lmm(self) -> LmmSettings:
        """The multimodal model that photos are sent to; its `model` is None if no photo is sent."""
        return self._profile.lmm

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the calibration cannot vouch for, one line each."""
        return self._refiner.doubts(least_likeness=self._profile.refinement.least_likeness)

    @property
    def fingerprint(self) -> str:
        """Identifies models, index and settings; `Answer.locator` repeats it."""
        return self._packed.fingerprint

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
            self._views(ids, images), image=lambda photo_id: images[int(photo_id)], albums=albums
        )
        similar = _similar_photos(answered, ids)
        spreads = self._spreads(answered, ids, similar, albums) if spread else [None] * len(ids)
        reasons = self._reasons(answered, ids, similar)
        predictions = [prediction for _, prediction in answered.predictions.iterrows()]
        return [
            self._answer(name, prediction, candidates=found, reason=reason, spread=drawn)
            for name, prediction, found, reason, drawn in zip(
                names, predictions, similar, reasons, spreads, strict=True
            )
        ]

    def _require(self, part: str, found: str) -> None:
        expected = getattr(self._packed, part)
        if found != expected:
            raise InputError(
                f"the loaded {part} ({found}) differs from the one that processed the gallery ({expected}): "
                f"run the step {part} and all later steps again"
            )

    def _views(self, ids: list[str], images: Sequence[Image.Image]) -> Views:
        """Both views. Batches have the pipeline's size because rounding can depend on the batch size."""
        sizes = self._profile.encoder.batch_size, self._profile.segmenter.batch_size
        encoded, label_maps = [], []
        for part in _batches(images, lcm(*sizes)):  # photos of an album are decoded here, part by part
            encoded += [self._encoder.encode(batch) for batch in _batches(part, sizes[0])]
            label_maps += [
                resize_labels(self._segmenter.segment(batch), self._packed.label_grid)
                for batch in _batches(part, sizes[1])
            ]
        views = ViewBatch(
            pooled_bd=torch.cat([part.pooled_bd.half() for part in encoded]),
            tokens_btd=torch.cat([part.tokens_btd.half() for part in encoded]),
            label_maps_bhw=torch.from_numpy(np.concatenate(label_maps)),
        )
        return Views(
            frame=pd.DataFrame({"id": ids, "author": None}),
            fingerprint="queries",
            encoder=self._encoder.fingerprint,
            segmenter=self._segmenter.fingerprint,
            label_grid=self._packed.label_grid,
            classes=self._segmenter.classes,
            width=self._encoder.width,
            tokens_per_photo=self._profile.encoder.token_grid**2,
            shards=(views,),
            shard_keys=(ShardKey(name="queries", fingerprint="queries", rows=range(len(ids))),),
        )

    def _spreads(
        self, answered: Answered, ids: Sequence[str], similar: list[pd.DataFrame], albums: pd.DataFrame | None
    ) -> list[Spread | None]:
        radius = self._profile.refinement.cluster_radius_km
        mixtures = self._answerer.mixtures(answered, ids, albums)
        return [
            spread_of(mixture, found, cluster_radius_km=radius)
            for mixture, found in zip(mixtures, similar, strict=True)
        ]

    def _reasons(self, answered: Answered, ids: Sequence[str], similar: list[pd.DataFrame]) -> list[str | None]:
        """Which evidence is missing for each photo without a position; None for the others."""
        usable = [] if answered.answers is None else usable_answers(answered.answers)["id"].tolist()
        unanswered = [self._profile.lmm.enabled and photo_id not in usable for photo_id in ids]
        radius = self._profile.refinement.cluster_radius_km
        return [
            missing_evidence(status, found, cluster_radius_km=radius, unanswered=silent) if unplaced else None
            for status, unplaced, found, silent in zip(
                answered.predictions["status"],
                answered.predictions["latitude"].isna(),
                similar,
                unanswered,
                strict=True,
            )
        ]

    def _answer(
        self,
        name: str,
        prediction: "pd.Series[Any]",
        *,
        candidates: pd.DataFrame,
        reason: str | None,
        spread: Spread | None,
    ) -> Answer:
        def known(column: str) -> Any:
            return None if pd.isna(prediction[column]) else prediction[column]

        return Answer(
            photo=name,
            status=str(prediction["status"]),
            reason=reason,
            latitude=known("latitude"),
            longitude=known("longitude"),
            place=known("place"),
            radius_50_km=known("radius_50_km"),
            radius_90_km=known("radius_90_km"),
            confidence_25km=known("confidence_25km"),
            candidates=[
                Candidate(**{str(column): value for column, value in row.items()})
                for row in candidates[["gallery_id", "latitude", "longitude", "similarity"]].to_dict("records")
            ],
            locator=self._packed.fingerprint,
            spread=spread,
        )


def _ids(names: Sequence[str]) -> list[str]:
    """Ids that are unique where names are not."""
    return [str(number) for number in range(len(names))]


def _similar_photos(answered: Answered, ids: Sequence[str]) -> list[pd.DataFrame]:
    """The most similar gallery photos of each of `ids`, best first."""
    similar = answered.candidates[answered.candidates["kind"] == "similar"]
    by_photo = dict(list(similar.groupby("id")))
    return [by_photo.get(photo_id, similar.iloc[:0]) for photo_id in ids]


def _adjusted(profile: Profile, *, lmm_model: str | None, max_risk: float | None) -> Profile:
    """The profile with these changes, and without `answers_file`, whose answers belong to other photos."""
    lmm = profile.lmm if lmm_model is None else profile.lmm.asking(lmm_model)
    changed = profile.model_copy(update={"lmm": lmm.model_copy(update={"answers_file": None})})
    if max_risk is None:
        return changed
    if profile.refinement.method != "posterior":
        raise InputError(
            f"a maximum risk needs refinement.method posterior, and the profile has {profile.refinement.method}; "
            "leave out the maximum risk"
        )
    refinement = RefinementSettings(**{**profile.refinement.model_dump(), "max_risk": max_risk})
    return changed.model_copy(update={"refinement": refinement})


def _open_retriever(packed: LocatorFolder, device: torch.device) -> Retriever:
    main = packed.profile.model.main
    model = None if main == "encoder" else DualViewModel.from_pretrained(packed.folder / MODEL).to(device).eval()
    retrieval = packed.profile.retrieval
    index = GalleryIndex(packed.folder / INDEX, probes=retrieval.probes)
    return Retriever(
        representation=main, model=model, index=index, gallery=packed.gallery, settings=retrieval, device=device
    )


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
