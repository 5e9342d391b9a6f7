"""Random candidates, answers and true places that resemble the output of a retriever and a multimodal model."""

import numpy as np
import pandas as pd

from dualgeo_core.base.geo import coordinates, destination


def made_benchmark(queries: int = 160, photographers: int = 16, each: int = 10, seed: int = 0):
    """(candidates, answers, truth); a third of the candidates lie within 3 km of the place, answers within 10 km."""
    random = np.random.default_rng(seed)
    latitude, longitude = coordinates(random.normal(size=(queries, 3)))
    ids = [f"q{number:03d}.jpg" for number in range(queries)]
    truth = pd.DataFrame(
        {
            "id": ids,
            "latitude": latitude,
            "longitude": longitude,
            "author": [f"a{number % photographers}" for number in range(queries)],
        }
    )
    near = random.random((queries, each)) < np.linspace(0.6, 0.2, each)
    stray = coordinates(random.normal(size=(queries, each, 3)))
    bearing, distance = random.uniform(0, 360, (queries, each)), random.exponential(1.5, (queries, each))
    by_place = destination(latitude[:, None], longitude[:, None], bearing, distance)
    found = [np.where(near, by_place[axis], stray[axis]).ravel() for axis in (0, 1)]
    candidates = pd.DataFrame(
        {
            "id": np.repeat(ids, each),
            "kind": "similar",
            "rank": np.tile(np.arange(1, each + 1), queries),
            "gallery_row": np.arange(queries * each),
            "latitude": found[0],
            "longitude": found[1],
        }
    )
    right = random.random(queries) < 0.6
    told = destination(latitude, longitude, random.uniform(0, 360, queries), np.where(right, 5.0, 4000.0))
    answers = pd.DataFrame(
        {"id": ids, "model": "made", "latitude": told[0], "longitude": told[1], "location": "Old Bridge, Somewhere"}
    )
    return candidates, answers, truth
