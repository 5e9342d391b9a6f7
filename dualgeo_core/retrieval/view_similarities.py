"""How similar a query and its candidates are in each view before training: the evidence for a photo unlike the gallery.

Trained vectors place any photo near some gallery photos. The frozen encoder and the label maps do not.
"""

from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dualgeo_core.views.store import Views

QUERIES_AT_ONCE = 256


class DescribedPhotos(Protocol):
    """Photos with a vector for each view."""

    def pooled(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The frozen encoder's pooled vectors (n, e) of `rows`."""
        ...

    def class_shares(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """The square roots of the classes' shares of the label maps of `rows`, (n, classes)."""
        ...


def with_view_similarities(
    candidates: pd.DataFrame, *, gallery: DescribedPhotos, queries: Views, rows: NDArray[np.int64]
) -> pd.DataFrame:
    """`candidates` of the queries `rows`, with the columns encoder_similarity and mask_similarity.

    The first is the cosine of the frozen encoder's pooled vectors. The second is the Bhattacharyya coefficient of the
    classes' shares of the label maps, from 0 to 1.
    """
    query = pd.Series(np.arange(len(rows)), index=queries.frame["id"].iloc[rows])[candidates["id"]].to_numpy()
    found = candidates["gallery_row"].to_numpy(np.int64)
    similarities = np.empty((len(candidates), 2))
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        asked = np.flatnonzero((query >= start) & (query < start + QUERIES_AT_ONCE))
        unique, place = np.unique(found[asked], return_inverse=True)
        part = rows[start : start + QUERIES_AT_ONCE]
        for column, (queries_qd, gallery_ud) in enumerate(
            ((queries.pooled(part), gallery.pooled(unique)), (queries.class_shares(part), gallery.class_shares(unique)))
        ):
            pairs_pd = unit(queries_qd)[query[asked] - start] * unit(gallery_ud)[place.reshape(-1)]
            similarities[asked, column] = pairs_pd.sum(dim=1).numpy()
    return candidates.assign(encoder_similarity=similarities[:, 0], mask_similarity=similarities[:, 1])


def unit(vectors_bd: torch.Tensor) -> torch.Tensor:
    """The vectors in float32, at length 1."""
    return functional.normalize(vectors_bd.float(), dim=-1)
