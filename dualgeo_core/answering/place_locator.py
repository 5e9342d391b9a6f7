"""Locates photos anywhere, without a gallery: GeoCLIP's published heads over CLIP, and our posterior over places."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.spatial import cKDTree

from dualgeo_core.answering.answerer import Answerer
from dualgeo_core.answering.base_locator import BaseLocator, adjusted
from dualgeo_core.base.artifacts import Artifact, new_artifact
from dualgeo_core.base.devices import choose_device
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.geo import unit_vectors
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.model.geoclip import PHOTO_WIDTH, PLACES_AT_ONCE, GeoClip, load_geoclip
from dualgeo_core.model.gps_encoder import published
from dualgeo_core.refine.calibration import UNCALIBRATED
from dualgeo_core.refine.density import shipped_density, shipped_places
from dualgeo_core.refine.features import CANDIDATE_FEATURES
from dualgeo_core.refine.kernels import SCALES_KM
from dualgeo_core.refine.refiner import REFINER_FILE, Head, Refiner, load_refiner, shipped_refiner
from dualgeo_core.retrieval.places import PhotoPlaces, PhotoVectors, PlaceRetriever
from dualgeo_core.settings import PlacesSettings
from dualgeo_core.views.encoder import load_encoder, weights_digest

VECTORS = "vectors.safetensors"
CLIP = "clip_vision_model"  # the architecture whose vectors GeoCLIP's image head was trained on
RECIPE = 1  # increase it when the same settings and weights give other candidates


class PlaceLocator(BaseLocator):
    """Locates photos with the models of a profile whose candidates are places.

    The vectors of all photo places are computed at first use and stored. Radii and confidences are calibrated if the
    profile's `calibrated_refiner` was fitted with these models and settings. Raises InputError if weights are missing.
    """

    candidates_are = "place"

    def __init__(
        self,
        settings: PlacesSettings,
        *,
        lmm_model: str | None = None,
        max_risk: float | None = None,
        progress: Progress = silent,
    ) -> None:
        profile = adjusted(settings.profile, lmm_model=lmm_model, max_risk=max_risk, even_unlike=False)
        device = choose_device(profile.device, threads=profile.threads)
        self._encoder = load_encoder(profile.encoder, device=device)
        if (self._encoder.model_type, self._encoder.width) != (CLIP, PHOTO_WIDTH):
            raise InputError(
                f"encoder.name is {profile.encoder.name}, a {self._encoder.model_type} whose vectors have "
                f"{self._encoder.width} numbers, and GeoCLIP's image head takes {PHOTO_WIDTH} numbers of a {CLIP}; use "
                "openai/clip-vit-large-patch14 or a copy of it"
            )
        self._model = load_geoclip().to(device)
        self.calibration = Artifact(
            path=settings.calibrated_refiner,
            step="benchmarks/world.py",
            recipe=fingerprint("place candidates", RECIPE, profile.places.model_dump(mode="json")),
            inputs={"encoder": self._encoder.fingerprint, "heads": weights_digest(self._model)},
        )
        calibrated = self.calibration.is_current()
        refiner = load_refiner(self.calibration.path / REFINER_FILE) if calibrated else uncalibrated_refiner()
        retriever = PlaceRetriever(
            model=self._model, places=_photo_places(settings, self._model, progress), settings=profile.places
        )
        super().__init__(
            answerer=Answerer(
                profile=profile,
                open_retriever=lambda: retriever,
                open_refiner=lambda: refiner,
                open_density=shipped_density,
                replies=settings.lmm_replies,
            ),
            refiner=refiner,
            shown_candidates=profile.places.best,
            fingerprint=fingerprint("places", self.calibration.recipe, self.calibration.inputs, refiner.fingerprint),
        )

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the calibration cannot vouch for, one line each."""
        if self.is_calibrated:
            return tuple(filter(None, [self._refiner.alone.calibration.doubt]))
        return ("radii and confidences are not calibrated; `python benchmarks/world.py` calibrates them on IM2GPS3k",)

    def candidates(self, photo_ids: Sequence[str], images: Sequence[Image.Image]) -> pd.DataFrame:
        """The candidates of upright RGB photos, with the columns of `PlaceRetriever.candidates`."""
        return self._answerer.candidates(self._queries(list(photo_ids), images))

    def _queries(self, ids: list[str], images: Sequence[Image.Image]) -> PhotoVectors:
        size = self._encoder.settings.batch_size
        pooled = [self._encoder.encode(images[start : start + size]).pooled_bd for start in range(0, len(ids), size)]
        return PhotoVectors(frame=pd.DataFrame({"id": ids}), vectors_bd=self._model.photos(torch.cat(pooled)))


def require_weights() -> None:
    """Raises InputError if the package with GeoCLIP's weights is not installed."""
    published("logit_scale_weights.pth")


def uncalibrated_refiner() -> Refiner:
    """A refiner whose posterior has GeoCLIP's probabilities.

    The mass of each candidate is spread evenly over kernels of all scales. Nothing about it is fitted.
    """
    features = CANDIDATE_FEATURES[False]
    candidate = np.zeros((len(features), len(SCALES_KM)), dtype=np.float32)
    candidate[features.index("gps_score")] = 1
    alone = Head(
        candidate=candidate,
        answer=np.zeros((0, len(SCALES_KM)), dtype=np.float32),
        background=float(np.log(1e-3)),
        score_scales={"gps_score": 1.0},
        snaps=False,
        calibration=UNCALIBRATED,
    )
    answered = replace(shipped_refiner().answered, calibration=UNCALIBRATED)
    return Refiner(alone=alone, answered=answered, data={})


def _photo_places(settings: PlacesSettings, model: GeoClip, progress: Progress) -> PhotoPlaces:
    """The shipped photo places with their vectors, which are computed if they are not stored."""
    places = shipped_places()
    degrees_p2 = np.array(places[["latitude", "longitude"]], dtype=np.float64)
    artifact = Artifact(
        path=settings.place_vectors,
        step="place vectors",
        recipe=fingerprint("place vectors", RECIPE),
        inputs={
            "encoder": weights_digest(model.location_encoder),
            "places": hashlib.sha256(degrees_p2.tobytes()).hexdigest(),
        },
    )
    if not artifact.is_current():
        parts = []
        for start in range(0, len(degrees_p2), PLACES_AT_ONCE):
            parts.append(model.places(torch.from_numpy(degrees_p2[start : start + PLACES_AT_ONCE])).cpu())
            progress("encode photo places, once", min(start + PLACES_AT_ONCE, len(degrees_p2)), len(degrees_p2))
        with new_artifact(artifact) as folder:
            write_tensors(folder / VECTORS, {"vectors": torch.cat(parts)})
    stored = read_tensors(artifact.path / VECTORS, remedy=f"delete {artifact.path}")["vectors"]
    return PhotoPlaces(
        latitude=degrees_p2[:, 0],
        longitude=degrees_p2[:, 1],
        photos=places["photos"].to_numpy(np.float64),
        order=cKDTree(unit_vectors(degrees_p2[:, 0], degrees_p2[:, 1])).indices,
        vectors_pd=stored.to(next(model.parameters()).device),
    )
