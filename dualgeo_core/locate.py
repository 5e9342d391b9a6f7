"""Photo in, answer out: where it was taken, how sure that is, and the gallery photos that say so."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dualgeo_core.errors import InputError
from dualgeo_core.loading import choose_device
from dualgeo_core.locator_folder import read_locator_folder
from dualgeo_core.model.embed import embed
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.photos.photo_set import ShardKey
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import load_refiner
from dualgeo_core.retrieval.candidates import candidate_rows
from dualgeo_core.retrieval.gps_evidence import with_gps_scores
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.stage2 import gallery_density
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.encoder import load_encoder
from dualgeo_core.views.segmenter import load_segmenter
from dualgeo_core.views.store import ViewBatch, Views
from dualgeo_core.workspace import REFINER_FILE


@dataclass(frozen=True)
class Candidate:
    """A gallery photo that looks like the query."""

    gallery_id: str
    latitude: float
    longitude: float
    similarity: float


@dataclass(frozen=True)
class Answer:
    """Where a photo was taken; positions and radii are None where `status` is not `ok`, radii in km."""

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
    """The models of a locator folder, loaded once and checked against its index; locates any number of photos."""

    def __init__(self, folder: Path) -> None:
        self._packed = read_locator_folder(folder)
        self._profile = self._packed.profile
        self._device = choose_device(self._profile)
        self._encoder = load_encoder(self._profile.encoder, device=self._device)
        self._segmenter = load_segmenter(
            self._profile.segmenter, self._profile.encoder, folder=folder / "segmenter", device=self._device
        )
        self._require("encoder", self._encoder.fingerprint)
        self._require("segmenter", self._segmenter.fingerprint)
        self._representation = self._profile.model.main
        self._model = None
        if self._representation != "encoder":
            self._model = DualViewModel.from_pretrained(folder / "model").to(self._device).eval()
        self._gallery = self._packed.gallery
        self._index = GalleryIndex(
            folder=folder / "index", signature=self._packed.index, probes=self._profile.retrieval.probes
        )
        self._refiner = load_refiner(folder / REFINER_FILE)
        self._density = gallery_density(self._gallery)

    def locate(self, names: Sequence[str], images: Sequence[Image.Image]) -> list[Answer]:
        """An answer per upright RGB image; `names` say in the answers which photo is which."""
        ids = [str(number) for number in range(len(names))]
        queries = self._views(ids, images)
        vectors = embed(model=self._model, views=queries, variant=self._representation, device=self._device)
        count = min(self._profile.retrieval.candidates, len(self._gallery))
        candidates = with_gps_scores(
            candidate_rows("similar", self._index.search(vectors, count), np.array(ids), self._gallery),
            model=self._model,
            queries=queries,
            device=self._device,
        )
        predictions = predict(
            candidates=candidates,
            answers=None,
            method=self._profile.refinement.method,
            params=self._refiner,
            settings=self._profile.refinement,
            ids=ids,
            density=self._density,
        )
        by_photo = dict(list(candidates.groupby("id")))
        return [
            self._answer(name, prediction, by_photo[photo_id])
            for name, photo_id, (_, prediction) in zip(names, ids, predictions.iterrows(), strict=True)
        ]

    def _require(self, part: str, found: str) -> None:
        expected = getattr(self._packed, part)
        if found != expected:
            raise InputError(
                f"the {part} that is loaded is {found}, the gallery was seen by {expected}: materialize the graph again"
            )

    def _views(self, ids: list[str], images: Sequence[Image.Image]) -> Views:
        encoded = self._encoder.encode(images)
        label_maps = self._segmenter.segment(images)
        resized = np.stack([resize_labels(label_map, self._packed.label_grid) for label_map in label_maps])
        batch = ViewBatch(encoded.pooled_bd.half(), encoded.tokens_btd.half(), torch.from_numpy(resized))
        return Views(
            frame=pd.DataFrame({"id": ids}),
            fingerprint="asked",
            encoder=self._encoder.fingerprint,
            segmenter=self._segmenter.fingerprint,
            label_grid=self._packed.label_grid,
            classes=self._segmenter.classes,
            width=self._encoder.width,
            tokens_per_photo=self._profile.encoder.token_grid**2,
            shards=(batch,),
            shard_keys=(ShardKey(name="asked", fingerprint="asked", rows=range(len(ids))),),
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
