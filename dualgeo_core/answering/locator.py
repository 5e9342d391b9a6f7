"""Locates photos: position, calibrated radii, confidence, and the most similar gallery photos."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dualgeo_core.answering.answerer import Answerer
from dualgeo_core.answering.locator_folder import (
    INDEX,
    MODEL,
    SEGMENTER,
    LocatorFolder,
    read_locator_folder,
)
from dualgeo_core.base.devices import choose_device
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.shards import ShardKey
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.refine.density import gallery_density
from dualgeo_core.refine.refiner import REFINER_FILE, load_refiner
from dualgeo_core.refine.tables import seconds_since_1970
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.settings import LmmSettings, Profile
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.encoder import load_encoder
from dualgeo_core.views.segmenter import load_segmenter
from dualgeo_core.views.store import ViewBatch, Views

Item = TypeVar("Item")


@dataclass(frozen=True)
class Candidate:
    """A gallery photo similar to the query."""

    gallery_id: str
    latitude: float
    longitude: float
    similarity: float


@dataclass(frozen=True)
class Answer:
    """The predicted position of a photo, with radii in km.

    Position and radii are None if there is no answer; `status` gives the reason.
    """

    photo: str
    status: str
    latitude: float | None
    longitude: float | None
    place: str | None
    radius_50_km: float | None
    radius_90_km: float | None
    confidence_25km: float | None
    candidates: list[Candidate]
    locator: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Locator:
    """Locates photos with the models of a locator folder.

    The models are loaded once. `lmm_model` replaces the profile's multimodal model. The model's replies are stored in
    the folder `replies`. Raises InputError if a file has changed or a model does not match the index.
    """

    def __init__(self, folder: Path, *, lmm_model: str | None = None, replies: Path | None = None) -> None:
        self._packed = read_locator_folder(folder)
        self._profile = _with_lmm_model(self._packed.profile, lmm_model)
        device = choose_device(self._profile.device, threads=self._profile.threads)
        self._encoder = load_encoder(self._profile.encoder, device=device)
        self._segmenter = load_segmenter(
            self._profile.segmenter, self._profile.encoder, folder=folder / SEGMENTER, device=device
        )
        self._require("encoder", self._encoder.fingerprint)
        self._require("segmenter", self._segmenter.fingerprint)
        retriever = _open_retriever(self._packed, device)
        density = gallery_density(retriever.gallery.frame)
        self._answerer = Answerer(
            profile=self._profile,
            open_retriever=lambda: retriever,
            open_refiner=partial(load_refiner, folder / REFINER_FILE),
            open_density=lambda: density,
            replies=replies,
        )

    @property
    def lmm(self) -> LmmSettings:
        """The multimodal model that photos are sent to; its `model` is None if no photo is sent."""
        return self._profile.lmm

    def locate(self, names: Sequence[str], images: Sequence[Image.Image]) -> list[Answer]:
        """One answer per upright RGB image, in their order; `names` become `Answer.photo`."""
        return self._located(names, images, albums=None)

    def locate_album(
        self,
        names: Sequence[str],
        images: Sequence[Image.Image],
        *,
        taken: Sequence[datetime | None],
        positions: Sequence[tuple[float, float] | None],
    ) -> list[Answer]:
        """As `locate`, for the photos of one camera, which are located together.

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
        return self._located(names, images, albums=albums)

    def _located(
        self, names: Sequence[str], images: Sequence[Image.Image], *, albums: pd.DataFrame | None
    ) -> list[Answer]:
        ids = _ids(names)
        by_id: Callable[[str], Image.Image] = dict(zip(ids, images, strict=True)).__getitem__
        answered = self._answerer.answer(self._views(ids, images), image=by_id, albums=albums)
        similar = answered.candidates[answered.candidates["kind"] == "similar"]
        by_photo = dict(list(similar.groupby("id")))
        return [
            self._answer(name, prediction, by_photo.get(photo_id, similar.iloc[:0]))
            for name, photo_id, (_, prediction) in zip(names, ids, answered.predictions.iterrows(), strict=True)
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
        encoded = [self._encoder.encode(batch) for batch in _batches(images, self._profile.encoder.batch_size)]
        label_maps = [
            resize_labels(self._segmenter.segment(batch), self._packed.label_grid)
            for batch in _batches(images, self._profile.segmenter.batch_size)
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

    def _answer(self, name: str, prediction: "pd.Series[Any]", candidates: pd.DataFrame) -> Answer:
        def known(column: str) -> Any:
            return None if pd.isna(prediction[column]) else prediction[column]

        return Answer(
            photo=name,
            status=str(prediction["status"]),
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
        )


def _ids(names: Sequence[str]) -> list[str]:
    """Ids that are unique where names are not."""
    return [str(number) for number in range(len(names))]


def _with_lmm_model(profile: Profile, lmm_model: str | None) -> Profile:
    """The profile with `lmm_model`, if given, and without `answers_file`, whose answers belong to other photos."""
    lmm = profile.lmm if lmm_model is None else profile.lmm.asking(lmm_model)
    return profile.model_copy(update={"lmm": lmm.model_copy(update={"answers_file": None})})


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
