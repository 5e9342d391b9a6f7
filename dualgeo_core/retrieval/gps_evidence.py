"""GPS encoder scores of the candidates' places: evidence for Stage 2 in addition to the photos' similarity."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dualgeo_core.model.embed import embed_for_places, gps_scores
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.views.store import Views

QUERIES_AT_ONCE = 256


def with_gps_scores(
    candidates: pd.DataFrame,
    *,
    model: DualViewModel | None,
    queries: Views,
    rows: NDArray[np.int64] | None = None,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """`candidates` with a column gps_score, the logit of photo against place; unchanged if there is no model.

    The queries are `rows` of `queries` (default: all).
    """
    if model is None:
        return candidates
    rows = np.arange(len(queries.frame)) if rows is None else rows
    embeddings_nd = embed_for_places(model=model, views=queries, rows=rows, device=device)
    query = pd.Series(np.arange(len(rows)), index=queries.frame["id"].iloc[rows])[candidates["id"]].to_numpy()
    places = candidates[["latitude", "longitude"]].to_numpy(np.float64)
    scores = np.empty(len(candidates))
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        asked = np.flatnonzero((query >= start) & (query < start + QUERIES_AT_ONCE))
        # Candidates share places, and encoding places takes most of the time.
        unique, place = np.unique(places[asked], axis=0, return_inverse=True)
        scores_qp = gps_scores(model, embeddings_nd[start : start + QUERIES_AT_ONCE], unique[:, 0], unique[:, 1])
        scores[asked] = scores_qp[query[asked] - start, place.reshape(-1)]
    return candidates.assign(gps_score=scores)
