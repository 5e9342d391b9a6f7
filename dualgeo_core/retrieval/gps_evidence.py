"""What the GPS encoder thinks of each candidate's place: evidence for Stage 2 beside the similarity of the photos."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dualgeo_core.model.embed import embed_for_places, gps_scores
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.views.store import Views

ROWS_AT_ONCE = 65_536


def with_gps_scores(
    candidates: pd.DataFrame,
    *,
    model: DualViewModel | None,
    queries: Views,
    rows: NDArray[np.int64] | None = None,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """`candidates` with a column gps_score, the logit of photo against place; as they are where there is no model.

    The queries are `rows` of `queries` (all by default).
    """
    if model is None:
        return candidates
    rows = np.arange(len(queries.frame)) if rows is None else rows
    embeddings_nd = embed_for_places(model=model, views=queries, rows=rows, device=device)
    query = pd.Series(np.arange(len(rows)), index=queries.frame["id"].iloc[rows])[candidates["id"]].to_numpy()
    latitude, longitude = candidates["latitude"].to_numpy()[:, None], candidates["longitude"].to_numpy()[:, None]
    scores = [
        gps_scores(model, embeddings_nd[query[part]], latitude[part], longitude[part])[:, 0]
        for part in (slice(start, start + ROWS_AT_ONCE) for start in range(0, len(candidates), ROWS_AT_ONCE))
    ]
    return candidates.assign(gps_score=np.concatenate(scores).astype(np.float64) if scores else [])
