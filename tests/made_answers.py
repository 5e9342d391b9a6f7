"""Made-up answers for maps, at places where maps go wrong."""

import numpy as np

from dualgeo_core.answering.answers import Answer, Candidate
from dualgeo_core.answering.spread import ShownCluster, Spread
from dualgeo_core.base.geo import destination
from dualgeo_core.refine.kernels import SCALES_KM

PLACES = {
    "paris": (48.8584, 2.2945),
    "fiji": (-16.8, 179.99),
    "pole": (89.6, 30.0),
    "south": (-89.9, -120.0),
}


def made_answer(
    latitude: float, longitude: float, *, photo: str = "photo.jpg", radius_km: float = 4.0, confidence: float = 0.9
) -> Answer:
    """An answer whose candidates lie on a ring round it, and whose posterior has kernels at its place and theirs."""
    ring = destination(latitude, longitude, np.arange(0, 360, 45), radius_km)
    points = np.array([[latitude, longitude], *np.column_stack(ring).tolist()])
    weights = np.zeros((len(points), len(SCALES_KM)), dtype=np.float32)
    weights[0, SCALES_KM.index(1.0)], weights[1:, SCALES_KM.index(5.0)] = 0.6, 0.3 / 8
    return Answer(
        photo=photo,
        status="ok",
        reason=None,
        latitude=latitude,
        longitude=longitude,
        place="Somewhere, Earth",
        radius_50_km=radius_km / 2,
        radius_90_km=2 * radius_km,
        confidence_25km=confidence,
        candidates=[
            Candidate(f"gallery-{number}", *map(float, point), 0.9 - number / 50)
            for number, point in enumerate(points[1:])
        ],
        locator="0123456789abcdef",
        spread=Spread(
            latitude=points[:, 0],
            longitude=points[:, 1],
            weights=weights,
            background=0.1,
            clusters=(ShownCluster(latitude, longitude, radius_km, 0.8, "Somewhere, Earth"),),
        ),
    )


def unplaced_answer(photo: str = "unplaced.jpg") -> Answer:
    """An answer without a position."""
    answer = made_answer(*PLACES["paris"], photo=photo)
    nothing = dict.fromkeys(("latitude", "longitude", "place", "radius_50_km", "radius_90_km", "confidence_25km"), None)
    return Answer(**{**vars(answer), **nothing, "status": "abstained", "reason": "no similar gallery photo"})
