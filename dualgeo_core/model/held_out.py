"""Retrieval of held-out photographers' photos by the model under training, computed by all processes together."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from dualgeo_core.model.embed import retrieval_views
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.model.retrieval_head import RetrievalViews
from dualgeo_core.model.validation import Light, fit_retrieval_head, mean_recall, nearest_km, recall_at_1, shift
from dualgeo_core.photos.photographers import Split
from dualgeo_core.views.store import Views

ENCODE_ROWS = 512


class HeldOutRetrieval:
    """The photos by held-out photographers, clean and in the light of the first relit copy, searched in all others."""

    def __init__(
        self, *, model: DualViewModel, views: Views, relit: Sequence[Views], split: Split, accelerator: Accelerator
    ) -> None:
        self.model, self.views, self.relit = model, views, tuple(relit[:1])
        self.split, self.accelerator = split, accelerator
        self.queries, self.gallery = (self.views.frame.iloc[rows] for rows in (split.queries, split.gallery))

    def recall(self) -> dict[str, float]:
        """Recall of the trained views alone, averaged over clean and relit queries."""
        head = self.model.retrieval_head
        gallery_nd = head(self._encode(self.views, self.split.gallery))
        return mean_recall(
            [
                recall_at_1(self._nearest_km(head(self._encode(views, self.split.queries)), gallery_nd))
                for views in (self.views, *self.relit)
            ]
        )

    def fit_head(self, *, whitening: float) -> dict[str, float]:
        """Fits the model's retrieval head, and returns the recall of its vector."""
        return fit_retrieval_head(
            head=self.model.retrieval_head,
            gallery_views=self._encode(self.views, self.split.gallery),
            held_out=self._light(),
            gallery=self.gallery,
            queries=self.queries,
            whitening=whitening,
        )

    def _light(self) -> Light:
        clean = self._encode(self.views, self.split.queries)
        if not self.relit:
            return Light(clean)
        relit, gallery = self.relit[0], self.split.gallery
        moved = shift(self.views.pooled(gallery), relit.pooled(gallery)).to(self.accelerator.device)
        return Light(clean, self._encode(relit, self.split.queries), encoder_shift=moved)

    def _nearest_km(self, queries_qd: torch.Tensor, gallery_gd: torch.Tensor) -> NDArray[np.float64]:
        return nearest_km(queries_qd, gallery_gd, queries=self.queries, gallery=self.gallery)

    def _encode(self, views: Views, rows: NDArray[np.int64]) -> RetrievalViews:
        """The trained `views` of `rows`; each process computes its share."""
        self.model.eval()
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        share = math.ceil(len(rows) / processes)
        own = rows[np.minimum(np.arange(rank * share, (rank + 1) * share), len(rows) - 1)]
        parts = [
            retrieval_views(self.model, views.batch(own[start : start + ENCODE_ROWS]), self.accelerator.device)
            for start in range(0, len(own), ENCODE_ROWS)
        ]
        gathered = (
            None if batches[0] is None else self.accelerator.gather(torch.cat(batches))[: len(rows)]
            for batches in zip(*parts, strict=True)
        )
        return RetrievalViews._make(gathered)
