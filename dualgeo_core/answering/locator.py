"""Locates photos with a gallery: position, calibrated radii, confidence, and the most similar gallery photos."""

from collections.abc import Iterator, Sequence
from math import lcm
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dualgeo_core.answering.answerer import Answerer
from dualgeo_core.answering.base_locator import BaseLocator, adjusted
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
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.settings import load_answering_settings
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.encoder import load_encoder
from dualgeo_core.views.segmenter import load_segmenter
from dualgeo_core.views.store import ViewBatch, Views

Item = TypeVar("Item")


class Locator(BaseLocator):
    """Locates photos with the models of a locator folder, given by its path or as it was read.

    The models are loaded once. `lmm_model` replaces the profile's multimodal model, and `max_risk` its limit on wrong
    answers. With `even_unlike`, photos unlike the gallery get a position, too. The multimodal model's replies are
    stored in the folder `replies`. Raises InputError if a file has changed or a model does not match the index.
    """

    candidates_are = "gallery photo"

    def __init__(
        self,
        folder: Path | LocatorFolder,
        *,
        lmm_model: str | None = None,
        max_risk: float | None = None,
        even_unlike: bool = False,
        replies: Path | None = None,
    ) -> None:
        self._packed = folder if isinstance(folder, LocatorFolder) else read_locator_folder(folder)
        self._profile = adjusted(self._packed.profile, lmm_model=lmm_model, max_risk=max_risk, even_unlike=even_unlike)
        device = choose_device(self._profile.device, threads=self._profile.threads)
        self._encoder = load_encoder(self._profile.encoder, device=device)
        self._segmenter = load_segmenter(
            self._profile.segmenter, self._profile.encoder, folder=self._packed.folder / SEGMENTER, device=device
        )
        self._require("encoder", self._encoder.fingerprint)
        self._require("segmenter", self._segmenter.fingerprint)
        retriever = _open_retriever(self._packed, device)
        density = gallery_density(retriever.gallery.frame)
        refiner = load_refiner(self._packed.folder / REFINER_FILE)
        super().__init__(
            answerer=Answerer(
                profile=self._profile,
                open_retriever=lambda: retriever,
                open_refiner=lambda: refiner,
                open_density=lambda: density,
                replies=replies,
            ),
            refiner=refiner,
            shown_candidates=self._profile.retrieval.candidates,
            fingerprint=self._packed.fingerprint,
        )

    @staticmethod
    def from_profile(
        profile: str | None = None,
        *,
        lmm_model: str | None = None,
        max_risk: float | None = None,
        even_unlike: bool = False,
    ) -> BaseLocator:
        """The champion of a profile, given by name or path (default: DUALGEO_PROFILE, else `demo`)."""
        from dualgeo_core.answering.opening import locator_opener

        return locator_opener(
            load_answering_settings(profile), lmm_model=lmm_model, max_risk=max_risk, even_unlike=even_unlike
        )()

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the calibration cannot vouch for, one line each."""
        return self._refiner.doubts(least_likeness=self._profile.refinement.least_likeness)

    def _require(self, part: str, found: str) -> None:
        expected = getattr(self._packed, part)
        if found != expected:
            raise InputError(
                f"the loaded {part} ({found}) differs from the one that processed the gallery ({expected}): "
                f"run the step {part} and all later steps again"
            )

    def _queries(self, ids: list[str], images: Sequence[Image.Image]) -> Views:
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


def _open_retriever(packed: LocatorFolder, device: torch.device) -> Retriever:
    main = packed.profile.model.main
    model = None if main == "encoder" else DualViewModel.from_pretrained(packed.folder / MODEL).to(device).eval()
    retrieval = packed.profile.retrieval
    index = GalleryIndex.open(packed.folder / INDEX)
    return Retriever(
        representation=main, model=model, index=index, gallery=packed.gallery, settings=retrieval, device=device
    )


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
