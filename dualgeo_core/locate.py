"""Photo in, answer out: where it was taken, how sure that is, and the gallery photos that say so."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dualgeo_core.loading import device, open_encoder, open_model, open_retriever, open_segmenter
from dualgeo_core.model.embed import embed
from dualgeo_core.refine.predict import predict
from dualgeo_core.stage2 import load_refiner
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.store import ViewBatch, Views
from dualgeo_core.workspace import Workspace


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
    index: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Locator:
    """The models of a profile, loaded once and checked against each other; locates any number of photos."""

    def __init__(self, workspace: Workspace) -> None:
        self._settings = workspace.profile
        self._representation = workspace.profile.model.main
        self._device = device(workspace)
        self._encoder = open_encoder(workspace)
        self._segmenter = open_segmenter(workspace)
        self._model = open_model(workspace, self._representation)
        self._retriever = open_retriever(workspace, self._representation)
        self._refiner = load_refiner(workspace)

    def locate(self, names: Sequence[str], images: Sequence[Image.Image]) -> list[Answer]:
        """An answer per upright RGB image; `names` say in the answers which photo is which."""
        ids = [str(number) for number in range(len(names))]
        queries = self._views(ids, images)
        vectors = embed(model=self._model, views=queries, variant=self._representation, device=self._device)
        candidates = self._retriever.unfiltered_candidates(queries=queries, vectors=vectors)
        predictions = predict(
            candidates=candidates,
            answers=None,
            method=self._settings.refinement.method,
            params=self._refiner,
            settings=self._settings.refinement,
            ids=ids,
        )
        by_photo = dict(list(candidates.groupby("id")))
        return [
            self._answer(name, prediction, by_photo[photo_id])
            for name, photo_id, (_, prediction) in zip(names, ids, predictions.iterrows(), strict=True)
        ]

    def _views(self, ids: list[str], images: Sequence[Image.Image]) -> Views:
        encoded = self._encoder.encode(images)
        label_grid = self._retriever.gallery.label_grid
        label_maps = np.stack([resize_labels(label_map, label_grid) for label_map in self._segmenter.segment(images)])
        batch = ViewBatch(encoded.pooled_bd.half(), encoded.tokens_btd.half(), torch.from_numpy(label_maps))
        gallery = self._retriever.gallery
        return Views(
            frame=pd.DataFrame({"id": ids, "latitude": np.nan, "longitude": np.nan, "author": None}),
            fingerprint="asked",
            encoder=self._encoder.fingerprint,
            segmenter=self._segmenter.fingerprint,
            label_grid=label_grid,
            classes=gallery.classes,
            width=gallery.width,
            tokens_per_photo=gallery.tokens_per_photo,
            shards=(batch,),
            first_rows=np.array([0]),
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
            index=self._retriever.index.signature,
        )
