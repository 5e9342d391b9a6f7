"""GPS encoder scores of the candidates' places: evidence for Stage 2 in addition to the photos' similarity."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.model.embed import gps_scores
from dualgeo_core.model.fusion import DualViewModel

QUERIES_AT_ONCE = 256


def with_gps_scores(
    candidates: pd.DataFrame, *, model: DualViewModel, photos_nd: NDArray[np.float32], ids: NDArray[np.object_]
) -> pd.DataFrame:
    """`candidates` with a column gps_score, the logit of photo against place.

    `photos_nd` are the vectors for places (`embed`) of the photos `ids`.
    """
    query = pd.Series(np.arange(len(ids)), index=ids)[candidates["id"]].to_numpy()
    places = candidates[["latitude", "longitude"]].to_numpy(np.float64)
    scores = np.empty(len(candidates))
    for start in range(0, len(ids), QUERIES_AT_ONCE):
        asked = np.flatnonzero((query >= start) & (query < start + QUERIES_AT_ONCE))
        # Candidates share places, and encoding places takes most of the time.
        unique, place = np.unique(places[asked], axis=0, return_inverse=True)
        scores_qp = gps_scores(model, photos_nd[start : start + QUERIES_AT_ONCE], unique[:, 0], unique[:, 1])
        scores[asked] = scores_qp[query[asked] - start, place.reshape(-1)]
    return candidates.assign(gps_score=scores)
